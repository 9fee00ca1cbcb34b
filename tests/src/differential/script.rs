//! What a seed plays: steps on a few slots, each slot a session with at most one connection.
//! A script is a function of its seed alone, never of replies, so that it plays again and shrinks.
//! Not here: sockets; the one thing filled in at play time is a zxid counted back from the newest.

use crate::client::{OPEN_ACL, op};
use crate::jute::Body;

use super::known;

pub const SLOTS: usize = 4;

#[derive(Clone, Debug)]
pub struct Step {
    pub slot: usize,
    pub action: Action,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// Requests written at once; all their replies are awaited.
    Calls(Vec<Call>),
    /// A new connection for the slot's session, or for a new one.
    Attach(Attach),
    /// The connection goes, the session stays.
    Drop,
    /// A frame, or less, that no server answers; it ends the connection.
    BadFrame(Vec<u8>),
    /// The first bytes of a connection of its own.
    Stranger(Vec<u8>),
}

#[derive(Clone, Debug)]
pub enum Attach {
    /// Same session; `read_only` as in the ConnectRequest.
    Same { timeout_ms: i32, read_only: Option<bool> },
    /// A session id that was never given out.
    Unknown,
    /// The slot's session, which has no connection, with a password that is not its own.
    WrongPassword { length: Option<usize> },
    /// As `Same`, from a client that has seen a zxid `ahead` of the server's.
    Seen { ahead: i64 },
}

#[derive(Clone, Debug)]
pub struct Call {
    pub label: String,
    pub xid: i32,
    pub op: i32,
    pub body: Vec<u8>,
    /// The body begins with a zxid: the newest one, less this.
    pub zxid_back: Option<i64>,
}

/// What a new session asks for.
#[derive(Clone, Debug)]
pub struct Fresh {
    pub timeout_ms: i32,
    pub read_only: Option<bool>,
    pub password: Option<usize>,
}

/// `count` steps. Every session is closed by the player at the end, not by the script.
pub fn generate(seed: u64, count: usize) -> Vec<Step> {
    let mut generator = Generator::new(seed);
    let base = generator.base.clone();
    let mut steps =
        vec![Step { slot: 0, action: Action::Calls(vec![generator.plain_create(base.as_bytes())]) }];
    if generator.quotas {
        steps.extend(generator.quota_setup().map(|call| Step { slot: 0, action: Action::Calls(vec![call]) }));
    }
    while steps.len() < count {
        steps.push(generator.step());
    }
    steps
}

/// How the slot's session is asked for when it has none yet: varies with the seed only.
pub fn fresh(seed: u64, slot: usize) -> Fresh {
    let mut dice = Dice(seed ^ (slot as u64 + 1).wrapping_mul(0xA5A5_5A5A));
    Fresh {
        timeout_ms: dice.pick(&[60_000, 0, 90_000, 1_000_000_000, -5, 120_000]),
        read_only: dice.pick(&[Some(false), Some(false), Some(true), None]),
        password: dice.pick(&[Some(16), Some(16), None, Some(0)]),
    }
}

/// The lists of setWatches2 in their order; setWatches has the first three.
const LISTS: [&str; 5] = ["data", "exist", "child", "persistent", "recursive"];

/// SplitMix64: tiny, and every seed is as good as another.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True in `percent` of a hundred cases.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Scheme and id; `None` is null.
type Identity = (Option<&'static [u8]>, Option<&'static [u8]>);

struct Generator {
    dice: Dice,
    base: String,
    /// A quota on the seed's own tree. Writes then go one by one: Apache checks quotas against what is applied, which
    /// in a burst is a matter of timing.
    quotas: bool,
    xids: [i32; SLOTS],
    slot: usize,
    in_multi: bool,
}

impl Generator {
    fn new(seed: u64) -> Generator {
        let mut dice = Dice(seed.wrapping_mul(0x2545_F491_4F6C_DD1D));
        dice.next();
        let quotas = dice.chance(20);
        Generator { dice, base: format!("/s{seed}"), quotas, xids: [0; SLOTS], slot: 0, in_multi: false }
    }

    fn step(&mut self) -> Step {
        self.slot = if self.dice.chance(50) { 0 } else { self.dice.below(SLOTS) };
        let action = match self.dice.below(1000) {
            0..20 => Action::Drop,
            20..50 => Action::Attach(self.attach()),
            50..56 => Action::BadFrame(self.bad_frame()),
            56..62 => Action::Stranger(self.stranger()),
            62..75 => Action::Calls(self.burst_then_close()),
            75..115 => Action::Calls(vec![self.auth()]),
            115..130 => Action::Calls(vec![self.unusual()]),
            130..150 => Action::Calls(vec![self.at_the_root()]),
            150..240 => Action::Calls(vec![self.malformed()]),
            240..300 if self.quotas => Action::Calls(vec![self.quota_change()]),
            _ => Action::Calls(self.burst()),
        };
        Step { slot: self.slot, action }
    }

    fn burst(&mut self) -> Vec<Call> {
        let length = match self.dice.below(10) {
            _ if self.quotas => 1,
            0..6 => 1,
            6..9 => 2 + self.dice.below(4),
            _ => 6 + self.dice.below(20),
        };
        let mut calls: Vec<Call> = (0..length).map(|_| self.call()).collect();
        // What comes behind a setACL may or may not be held to it by Apache, see `known`.
        if let Some(at) = calls.iter().position(|call| call.op == op::SET_ACL) {
            calls.truncate(at + 1);
        }
        calls
    }

    fn burst_then_close(&mut self) -> Vec<Call> {
        let mut calls = self.burst();
        calls.push(self.made("closeSession", op::CLOSE_SESSION, Body::new()));
        calls
    }

    fn call(&mut self) -> Call {
        match self.dice.below(100) {
            0..22 => self.create(),
            22..30 => self.delete(),
            30..40 => self.set_data(),
            40..47 => self.read(op::EXISTS, "exists"),
            47..54 => self.read(op::GET_DATA, "getData"),
            54..60 => self.read(op::GET_CHILDREN, "getChildren"),
            60..65 => self.read(op::GET_CHILDREN2, "getChildren2"),
            65..69 => self.set_acl(),
            69..72 => self.get_acl(),
            72..82 => self.multi(),
            82..84 => self.multi_read(),
            84..89 => self.watches(),
            89..92 => self.set_watches(),
            92..94 => self.get_ephemerals(),
            94..96 => self.count_children(),
            96..97 => self.sync(),
            97..98 => self.made("whoAmI", op::WHO_AM_I, Body::new()),
            98..99 => {
                let ping = self.made("ping", op::PING, Body::new());
                Call { xid: self.dice.pick(&[-2, ping.xid]), ..ping }
            }
            _ => self.reconfig(),
        }
    }

    // --- fields ---

    fn made(&mut self, label: impl Into<String>, op: i32, body: Body) -> Call {
        self.xids[self.slot] += 1;
        // Any xid is echoed; -1 alone would look like an event.
        let xid = if self.dice.chance(1) { self.dice.pick(&[0, -8, i32::MAX]) } else { self.xids[self.slot] };
        Call { label: label.into(), xid, op, body: body.0, zxid_back: None }
    }

    /// Mostly one of a few paths below the seed's own, so that operations meet; sometimes an odd one.
    fn path(&mut self) -> Option<Vec<u8>> {
        if self.dice.chance(94) { Some(self.plain_path().into_bytes()) } else { self.odd_path() }
    }

    fn plain_path(&mut self) -> String {
        let mut path = self.base.clone();
        for _ in 0..self.dice.pick(&[0, 1, 1, 1, 1, 2, 2, 2, 3]) {
            path.push('/');
            if self.dice.chance(8) {
                let number = self.dice.below(12);
                path.push_str(&format!("q-{number:010}"));
            } else {
                path.push_str(self.dice.pick(&["a", "b", "c", "d"]));
            }
        }
        path
    }

    fn odd_path(&mut self) -> Option<Vec<u8>> {
        let base = self.base.clone();
        let below = |tail: &str| format!("{base}{tail}").into_bytes();
        Some(match self.dice.below(30) {
            0 | 1 => return None,
            2 => b"".to_vec(),
            3 | 4 => b"/".to_vec(),
            5 => b"foo".to_vec(),
            6 => b"foo/bar".to_vec(),
            7 => b"//".to_vec(),
            8 => below("/"),
            9 => below("//a"),
            10 => below("/a//b"),
            11 => below("/."),
            12 => below("/.."),
            13 => below("/./a"),
            14 => below("/a/../b"),
            15 => below("/\u{1}"),
            16 => below("/nul\0here"),
            17 => below("/\u{7f}"),
            18 => below("/\u{fffd}"),
            19 => [base.as_bytes(), b"/\xff\xfe"].concat(),
            20 => [base.as_bytes(), b"/\xed\xa0\xbd\xed\xb8\x80"].concat(),
            21 => below("/\u{1f600}"),
            22 => below("/é"),
            23 => below("/a b"),
            24 => below("/…."),
            25 => b"/zookeeper".to_vec(),
            26 => b"/zookeeper/config".to_vec(),
            27 => b"/zookeeper/quota".to_vec(),
            28 => b"/zookeeper/none".to_vec(),
            _ => below("/\u{e000}"),
        })
    }

    fn data(&mut self) -> Option<Vec<u8>> {
        let length = match self.dice.below(40) {
            0..4 => return None,
            4..8 => 0,
            8 => 300,
            9 => 5_000,
            10 if self.dice.chance(20) => 100_000,
            _ => 1 + self.dice.below(20),
        };
        let first = self.dice.next() as u8;
        Some((0..length).map(|i| first.wrapping_add(i as u8)).collect())
    }

    fn version(&mut self) -> i32 {
        self.dice.pick(&[-1, -1, -1, -1, -1, -1, 0, 0, 0, 1, 1, 2, 3, -2, i32::MAX, i32::MIN])
    }

    /// The bytes of a `vector<ACL>`.
    fn acl(&mut self) -> Vec<u8> {
        if self.dice.chance(70) {
            return OPEN_ACL.to_vec();
        }
        if self.dice.chance(8) {
            return Body::new().int(self.dice.pick(&[-1, 0, -5])).0;
        }
        let count = self.dice.pick(&[1, 1, 1, 2, 2, 3]);
        let mut body = Body::new().int(count);
        for _ in 0..count {
            let perms = self.dice.pick(&[31, 31, 31, 31, 1, 2, 4, 8, 16, 15, 17, 30, 0, 255, -1]);
            let (scheme, id) = self.identity();
            body = body.int(perms).buffer(scheme).buffer(id);
        }
        body.0
    }

    fn identity(&mut self) -> Identity {
        const U1: &[u8] = b"u1:fpT/y03U+EjItKZOSLGvjnJlyng=";
        const U2: &[u8] = b"u2:o9NxcCGDPOlcV7JVhmKHOf5ctVE=";
        const U3: &[u8] = b"u3:Im5xY/YYc2xRYjWcy4eAeBEG1fk=";
        let usual: [(&[u8], &[u8]); 10] = [
            (b"world", b"anyone"),
            (b"world", b"anyone"),
            (b"auth", b""),
            (b"auth", b"anything"),
            (b"digest", U1),
            (b"digest", U2),
            (b"digest", U3),
            (b"ip", b"127.0.0.1"),
            (b"ip", b"127.0.0.0/8"),
            (b"ip", b"10.0.0.0/8"),
        ];
        let unusual: [Identity; 24] = [
            (Some(b"world"), Some(b"nobody")),
            (Some(b"world"), None),
            (Some(b"digest"), None),
            (Some(b"digest"), Some(b"a")),
            (Some(b"digest"), Some(b"a:")),
            (Some(b"digest"), Some(b":b")),
            (Some(b"digest"), Some(b"a:b:")),
            (Some(b"digest"), Some(b"a:b:c")),
            (Some(b"digest"), Some(b"")),
            (Some(b"ip"), None),
            (Some(b"ip"), Some(b"127.0.0.1/33")),
            (Some(b"ip"), Some(b"127.0.0.1/0")),
            (Some(b"ip"), Some(b"127.0.0.1/-1")),
            (Some(b"ip"), Some(b"127.0.0")),
            (Some(b"ip"), Some(b"::1")),
            (Some(b"ip"), Some(b"fe80::/10")),
            (Some(b"ip"), Some(b"host")),
            (Some(b"ip"), Some(b"256.0.0.1")),
            (Some(b"sasl"), Some(b"user")),
            (Some(b"super"), Some(b"")),
            (Some(b"x509"), Some(b"CN=a")),
            (Some(b"nope"), Some(b"x")),
            (Some(b""), Some(b"")),
            (None, Some(b"anyone")),
        ];
        let (scheme, id) = self.dice.pick(&usual);
        let usual = (Some(scheme), Some(id));
        if self.dice.chance(75) {
            return usual;
        }
        match self.dice.pick(&unusual) {
            // See `known`.
            (_, None) if self.in_multi => usual,
            identity => identity,
        }
    }

    // --- writes ---

    fn plain_create(&mut self, path: &[u8]) -> Call {
        let body = Body::new().buffer(Some(path)).buffer(Some(b"")).raw(OPEN_ACL).int(0);
        self.made(format!("create {} 0", text(Some(path))), op::CREATE, body)
    }

    fn create(&mut self) -> Call {
        if self.dice.chance(8) {
            let base = self.base.clone();
            return self.plain_create(base.as_bytes());
        }
        // Enough open znodes that the other operations find some.
        if self.dice.chance(35) {
            let path = self.plain_path();
            return self.plain_create(path.as_bytes());
        }
        let (op, label, flags, ttl) = self.mode();
        let path = self.create_path(flags);
        let (data, acl) = (self.data(), self.acl());
        let body = Body::new().buffer(path.as_deref()).buffer(data.as_deref()).raw(&acl).int(flags);
        let body = ttl.into_iter().fold(body, Body::long);
        let label = format!(
            "{label} {} flags {flags}{}",
            text(path.as_deref()),
            ttl.map_or(String::new(), |t| format!(" ttl {t}"))
        );
        self.made(label, op, body)
    }

    fn create_path(&mut self, flags: i32) -> Option<Vec<u8>> {
        let path = self.path();
        // A sequential name grows from a prefix: "q-" as elsewhere, or nothing at all.
        match path {
            Some(path) if matches!(flags, 2 | 3 | 6) => Some(
                [path.as_slice(), self.dice.pick::<&[u8]>(&[b"/q-", b"/q-", b"/q-", b"/", b""])].concat(),
            ),
            path => path,
        }
    }

    /// Operation, its name, flags, and a TTL where the operation has one.
    fn mode(&mut self) -> (i32, &'static str, i32, Option<i64>) {
        match self.dice.below(20) {
            0 => (op::CREATE_CONTAINER, "createContainer", self.dice.pick(&[4, 4, 4, 4, 0, 2, 6, 9]), None),
            1..3 => {
                let ttl = self.dice.pick(&[
                    1,
                    1_000_000,
                    (1 << 40) - 1,
                    1 << 40,
                    0,
                    -1,
                    i64::MIN,
                    i64::MAX,
                    50_000_000,
                ]);
                let flags = self.dice.pick(&[5, 5, 5, 6, 6, 0, 1, 4, 7, -1]);
                (op::CREATE_TTL, "createTTL", flags, Some(known::harmless_ttl(flags, ttl)))
            }
            n => {
                let flags = self.dice.pick(&[0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 5, 6, 7, -1]);
                let (op, label) = if n < 9 { (op::CREATE2, "create2") } else { (op::CREATE, "create") };
                (op, label, flags, None)
            }
        }
    }

    fn delete(&mut self) -> Call {
        let (path, version) = (self.path(), self.version());
        let label = format!("delete {} v{version}", text(path.as_deref()));
        self.made(label, op::DELETE, Body::new().buffer(path.as_deref()).int(version))
    }

    fn set_data(&mut self) -> Call {
        let (path, data, version) = (self.path(), self.data(), self.version());
        let label = format!("setData {} v{version}", text(path.as_deref()));
        self.made(
            label,
            op::SET_DATA,
            Body::new().buffer(path.as_deref()).buffer(data.as_deref()).int(version),
        )
    }

    fn set_acl(&mut self) -> Call {
        let (path, acl, version) = (self.path(), self.acl(), self.version());
        let label = format!("setACL {} v{version}", text(path.as_deref()));
        self.made(label, op::SET_ACL, Body::new().buffer(path.as_deref()).raw(&acl).int(version))
    }

    fn reconfig(&mut self) -> Call {
        let id = if self.dice.chance(50) { -1 } else { 0 };
        let body = Body::new().buffer(None).buffer(Some(b"3")).buffer(None).long(id);
        self.made("reconfig", op::RECONFIG, body)
    }

    /// Operations on `/` and beside the seed's tree; alone in their step.
    fn at_the_root(&mut self) -> Call {
        let beside = format!("{}x", self.base).into_bytes();
        match self.dice.below(8) {
            0 => {
                let acl = self.acl();
                self.made("setACL / v-1", op::SET_ACL, Body::new().string("/").raw(&acl).int(-1))
            }
            1 => {
                let data = self.data();
                self.made(
                    "setData / v-1",
                    op::SET_DATA,
                    Body::new().string("/").buffer(data.as_deref()).int(-1),
                )
            }
            2 => self.plain_create(b"/"),
            3 => self.plain_create(&beside),
            4 => self.made("delete beside", op::DELETE, Body::new().buffer(Some(&beside)).int(-1)),
            5 => {
                let body = Body::new().buffer(Some(b"/q-")).buffer(None).raw(OPEN_ACL).int(3);
                self.made("create /q- 3", op::CREATE2, body)
            }
            6 => self.made("getChildren / watched", op::GET_CHILDREN2, Body::new().string("/").bool(true)),
            _ => self.made("addWatch / recursive", op::ADD_WATCH, Body::new().string("/").int(1)),
        }
    }

    fn multi(&mut self) -> Call {
        let mut body = Body::new();
        let mut label = String::from("multi");
        self.in_multi = true;
        for _ in 0..self.dice.pick(&[0, 1, 2, 2, 3, 3, 4, 6]) {
            let part = match self.dice.below(20) {
                0..8 => self.create(),
                8..11 => self.delete(),
                11..15 => self.set_data(),
                15..18 => self.check(),
                18 if self.dice.chance(30) => self.set_acl(),
                19 if self.dice.chance(20) => self.read(op::GET_DATA, "getData"),
                _ => self.check(),
            };
            label.push_str(&format!(" [{}]", part.label));
            body = body.int(part.op).bool(false).int(-1).raw(&part.body);
        }
        self.in_multi = false;
        self.made(label, op::MULTI, body.int(-1).bool(true).int(-1))
    }

    fn check(&mut self) -> Call {
        let (path, version) = (self.path(), self.version());
        let label = format!("check {} v{version}", text(path.as_deref()));
        self.made(label, op::CHECK, Body::new().buffer(path.as_deref()).int(version))
    }

    // --- reads ---

    fn read(&mut self, op: i32, name: &str) -> Call {
        let (path, watch) = (self.path(), self.dice.chance(40));
        let label = format!("{name} {}{}", text(path.as_deref()), if watch { " watched" } else { "" });
        // Any byte but 0 is true.
        let flag = if watch { self.dice.pick(&[1, 1, 1, 255]) } else { 0 };
        self.made(label, op, Body::new().buffer(path.as_deref()).byte(flag))
    }

    fn get_acl(&mut self) -> Call {
        let path = self.path();
        self.made(
            format!("getACL {}", text(path.as_deref())),
            op::GET_ACL,
            Body::new().buffer(path.as_deref()),
        )
    }

    fn count_children(&mut self) -> Call {
        let path = self.path().filter(|path| !path.is_empty());
        let label = format!("getAllChildrenNumber {}", text(path.as_deref()));
        self.made(label, op::GET_ALL_CHILDREN_NUMBER, Body::new().buffer(path.as_deref()))
    }

    fn sync(&mut self) -> Call {
        let path = self.path();
        self.made(format!("sync {}", text(path.as_deref())), op::SYNC, Body::new().buffer(path.as_deref()))
    }

    fn get_ephemerals(&mut self) -> Call {
        let prefix = match self.dice.below(8) {
            0 => None,
            1 => Some(Vec::new()),
            2 => Some(b"/".to_vec()),
            3 => Some(b"  ".to_vec()),
            4 => Some(self.base.clone().into_bytes()),
            5 => Some(format!("{}/a", self.base).into_bytes()),
            _ => self.path(),
        };
        let label = format!("getEphemerals {}", text(prefix.as_deref()));
        self.made(label, op::GET_EPHEMERALS, Body::new().buffer(prefix.as_deref()))
    }

    fn multi_read(&mut self) -> Call {
        let mut body = Body::new();
        let mut label = String::from("multiRead");
        for _ in 0..self.dice.pick(&[0, 1, 2, 3, 5]) {
            let part = match self.dice.below(20) {
                0..10 => self.read(op::GET_DATA, "getData"),
                10..19 => self.read(op::GET_CHILDREN, "getChildren"),
                _ => match self.dice.below(3) {
                    0 => self.read(op::EXISTS, "exists"),
                    1 => self.set_data(),
                    _ => self.read(op::GET_CHILDREN2, "getChildren2"),
                },
            };
            label.push_str(&format!(" [{}]", part.label));
            body = body.int(part.op).bool(false).int(-1).raw(&part.body);
        }
        self.made(label, op::MULTI_READ, body.int(-1).bool(true).int(-1))
    }

    // --- watches ---

    fn watches(&mut self) -> Call {
        let path = self.path().or(Some(b"/null".to_vec()));
        let (op, name, kind) = match self.dice.below(10) {
            0..5 => (op::ADD_WATCH, "addWatch", self.dice.pick(&[0, 0, 0, 1, 1, 1, 2, -1])),
            5..8 => (op::REMOVE_WATCHES, "removeWatches", self.dice.pick(&[1, 2, 3, 3, 4, 5, 0, 6])),
            _ => (op::CHECK_WATCHES, "checkWatches", self.dice.pick(&[1, 2, 3, 3, 4, 5, 0, 6])),
        };
        let label = format!("{name} {} {kind}", text(path.as_deref()));
        self.made(label, op, Body::new().buffer(path.as_deref()).int(kind))
    }

    fn set_watches(&mut self) -> Call {
        let both = self.dice.chance(60);
        let mut body = Body::new().long(0);
        let mut label = String::from(if both { "setWatches2" } else { "setWatches" });
        for list in
            ["data", "exist", "child", "persistent", "recursive"].iter().take(if both { 5 } else { 3 })
        {
            if self.dice.chance(1) {
                // What stands before a null list takes effect on Apache, see `known`; so nothing does.
                body = Body::new().long(0);
                (0..LISTS.iter().position(|name| name == list).unwrap_or(0))
                    .for_each(|_| body = body.clone().int(0));
                body = body.int(-1);
                label.push_str(&format!(" but {list}:null"));
                continue;
            }
            let paths: Vec<Vec<u8>> =
                (0..self.dice.below(4)).map(|_| self.plain_path().into_bytes()).collect();
            label.push_str(&format!(
                " {list}:{}",
                paths.iter().map(|p| text(Some(p))).collect::<Vec<_>>().join(",")
            ));
            body = body.strings(&paths);
        }
        let back = self.dice.pick(&[0, 0, 1, 2, 5, 10, 30, 100, -5]);
        let call = self.made(
            format!("{label} since -{back}"),
            if both { op::SET_WATCHES2 } else { op::SET_WATCHES },
            body,
        );
        Call { zxid_back: Some(back), ..call }
    }

    // --- what is not a plain request ---

    fn auth(&mut self) -> Call {
        let (scheme, token): (&[u8], Option<&[u8]>) = match self.dice.below(40) {
            0..10 => (b"digest", Some(b"u1:p1")),
            10..20 => (b"digest", Some(b"u2:p2")),
            20..27 => (b"digest", Some(b"u3:p3")),
            27 => (b"digest", Some(b"u1:wrong")),
            28 => (b"digest", Some(b"nocolon")),
            29 => (b"digest", Some(b"")),
            30 => (b"digest", Some(b"u:p:q")),
            31 => (b"digest", None),
            32 => (b"digest", Some(b"super:admin")),
            33 => (b"ip", Some(b"10.0.0.1")),
            34 => (b"ip", None),
            35 => (b"world", Some(b"anyone")),
            36 => (b"nope", Some(b"x")),
            37 => (b"sasl", Some(b"x")),
            38 => (b"super", Some(b"")),
            _ => (b"digest", Some(b"\xff\xfe:\x80")),
        };
        let body = Body::new().int(self.dice.below(3) as i32).buffer(Some(scheme)).buffer(token);
        let call = self.made(format!("auth {} {}", text(Some(scheme)), text(token)), op::AUTH, body);
        Call { xid: self.dice.pick(&[-4, -4, call.xid]), ..call }
    }

    fn unusual(&mut self) -> Call {
        let op =
            self.dice.pick(&[0, -1, 10, op::CHECK, 23, 99, 108, 1000, -2, -12, i32::MAX, i32::MIN, op::SASL]);
        let body =
            if op == op::SASL { Body::new().buffer(Some(b"")) } else { Body::new().string("/a").int(-1) };
        self.made(format!("operation {op}"), op, body)
    }

    /// A usual request, damaged.
    fn malformed(&mut self) -> Call {
        let mut call = self.call();
        // A ping has no body, and a sequence of operations may be damaged into something well formed but harmful.
        if call.body.is_empty() {
            return call;
        }
        let length = call.body.len();
        let how = match self.dice.below(5) {
            0 | 1 => {
                let at = self.dice.below(length);
                call.body.truncate(at);
                format!("cut at {at} of {length}")
            }
            2 | 3 => {
                let at = self.dice.below(length.saturating_sub(4).max(1));
                let value = self.dice.pick(&[-1, -2, 0, i32::MAX, i32::MIN, 0x10_0000, 0x0fff_ffff]);
                let end = (at + 4).min(length);
                call.body[at..end].copy_from_slice(&value.to_be_bytes()[..end - at]);
                format!("{value} at {at} of {length}")
            }
            _ => {
                call.body.extend_from_slice(b"trailing bytes");
                "trailing bytes".to_owned()
            }
        };
        call.label = format!("{} damaged: {how}", call.label);
        if call.zxid_back.is_some() && call.body.len() < 8 {
            call.zxid_back = None;
        }
        if known::left_out(call.op, &call.body) { self.call() } else { call }
    }

    fn bad_frame(&mut self) -> Vec<u8> {
        match self.dice.below(6) {
            0 => (-1i32).to_be_bytes().to_vec(),
            1 => i32::MIN.to_be_bytes().to_vec(),
            2 => 1_048_576i32.to_be_bytes().to_vec(),
            3 => i32::MAX.to_be_bytes().to_vec(),
            4 => 0i32.to_be_bytes().to_vec(),
            _ => [&4i32.to_be_bytes()[..], b"\0\0\0\x01"].concat(),
        }
    }

    fn stranger(&mut self) -> Vec<u8> {
        match self.dice.below(8) {
            0 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            1 => b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
            2 => b"RUOK".to_vec(),
            3 => b"ruok".to_vec(),
            4 => b"isro\n".to_vec(),
            5 => (-1i32).to_be_bytes().to_vec(),
            6 => 0i32.to_be_bytes().to_vec(),
            // A ConnectRequest that ends before its session id.
            _ => [&12i32.to_be_bytes()[..], &[0; 12]].concat(),
        }
    }

    fn attach(&mut self) -> Attach {
        match self.dice.below(10) {
            0..5 => Attach::Same {
                timeout_ms: self.dice.pick(&[60_000, 0, 90_000, i32::MAX]),
                read_only: self.dice.pick(&[Some(false), Some(true), None]),
            },
            5 => Attach::Unknown,
            6 | 7 => Attach::WrongPassword {
                length: self.dice.pick(&[Some(16), Some(16), None, Some(0), Some(7)]),
            },
            8 => Attach::Seen { ahead: self.dice.pick(&[1, 1000]) },
            _ => Attach::Seen { ahead: self.dice.pick(&[0, -1]) },
        }
    }

    // --- quotas ---

    fn quota_setup(&mut self) -> std::vec::IntoIter<Call> {
        let quota = format!("/zookeeper/quota{}", self.base);
        vec![
            self.plain_create(quota.as_bytes()),
            self.quota_node("zookeeper_limits"),
            self.quota_node("zookeeper_stats"),
        ]
        .into_iter()
    }

    fn quota_node(&mut self, name: &str) -> Call {
        let path = format!("/zookeeper/quota{}/{name}", self.base);
        let limits = self.limits();
        let body = Body::new().string(&path).buffer(Some(limits.as_bytes())).raw(OPEN_ACL).int(0);
        self.made(format!("create {path} {limits}"), op::CREATE, body)
    }

    fn limits(&mut self) -> &'static str {
        self.dice.pick(&[
            "count=5,bytes=1000",
            "count=-1,bytes=50",
            "count=3,bytes=-1=;byteHardLimit=-1;countHardLimit=6",
            "count=-1,bytes=-1=;byteHardLimit=60;countHardLimit=-1",
            "count=8,bytes=100=;byteHardLimit=200;countHardLimit=8",
        ])
    }

    /// Only texts that Apache can read: others end it.
    fn quota_change(&mut self) -> Call {
        let name = self.dice.pick(&["zookeeper_limits", "zookeeper_limits", "zookeeper_stats"]);
        let path = format!("/zookeeper/quota{}/{name}", self.base);
        match self.dice.below(6) {
            0 => self.made(format!("delete {path}"), op::DELETE, Body::new().string(&path).int(-1)),
            1 | 2 => self.quota_node(name),
            3 => {
                let limits = self.limits();
                let body = Body::new().string(&path).buffer(Some(limits.as_bytes())).int(-1);
                self.made(format!("setData {path} {limits}"), op::SET_DATA, body)
            }
            _ => self.made(format!("getData {path}"), op::GET_DATA, Body::new().string(&path).bool(true)),
        }
    }
}

/// A path or a token for a person to read.
pub fn text(bytes: Option<&[u8]>) -> String {
    bytes.map_or("null".to_owned(), |bytes| format!("{:?}", String::from_utf8_lossy(bytes)).replace('"', "'"))
}
