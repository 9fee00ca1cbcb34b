//! Bytes to state: the body (sessions, ACLs, znodes) and its two envelopes, a file's seals and footer and a stream's last
//! word, each checked where it stands. Not here: files, sockets, compression, which file.
//! Memory grows with bytes received: a length is believed only as far as bytes come.

use super::encode::{self, Checks, SEAL_BYTES, SLASH, STAT_BYTES, STREAM_END};
use super::{DigestSection, Restore, SnapshotNode, batches};
use crate::model::{Owner, SessionId, StatPersisted, WallMillis};
use ostler_replication::Zxid;
use std::borrow::Cow;
use std::io;

/// Where bytes come from, in pieces of any size.
pub(super) trait Pieces {
    /// Puts the next piece behind what is held; `false` at the end.
    fn append(&mut self, held: &mut Vec<u8>) -> io::Result<bool>;
}

/// What a whole snapshot contained.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Contents {
    pub sessions: u64,
    pub acls: u64,
    pub nodes: u64,
    /// Data of all znodes together.
    pub data_bytes: u64,
    /// All of the file before compression.
    pub plain_bytes: u64,
    pub digest: Option<DigestSection>,
    /// The last section of 3.9; the file's name says the same and wins.
    pub last_zxid: Option<Zxid>,
    /// Whether our own check stood behind Apache's seals.
    pub footer: bool,
}

/// Where what is decoded goes, each with its offset in the uncompressed bytes.
pub(super) trait Sink {
    fn session(&mut self, offset: u64, id: SessionId, timeout_ms: i32) -> Result<(), Failure>;
    fn acl(&mut self, offset: u64, key: i64, acl: &[u8]) -> Result<(), Failure>;
    fn node(&mut self, offset: u64, node: SnapshotNode<'_>) -> Result<(), Failure>;
}

/// Straight into the state.
pub(super) struct Straight<'a>(pub &'a mut dyn Restore);

impl Sink for Straight<'_> {
    fn session(&mut self, offset_bytes: u64, id: SessionId, timeout_ms: i32) -> Result<(), Failure> {
        self.0.session(id, timeout_ms).map_err(|what| Failure::Damaged { offset_bytes, what })
    }

    fn acl(&mut self, offset_bytes: u64, key: i64, acl: &[u8]) -> Result<(), Failure> {
        self.0.acl(key, acl).map_err(|what| Failure::Damaged { offset_bytes, what })
    }

    fn node(&mut self, offset: u64, node: SnapshotNode<'_>) -> Result<(), Failure> {
        batches::plant(self.0, offset, node, None)
    }
}

/// Nowhere: only finds where a znode stands that was refused too late to know.
pub(super) struct Refused {
    /// Znodes before it.
    pub before: u64,
    pub why: String,
}

impl Sink for Refused {
    fn session(&mut self, _: u64, _: SessionId, _: i32) -> Result<(), Failure> {
        Ok(())
    }

    fn acl(&mut self, _: u64, _: i64, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    fn node(&mut self, offset: u64, node: SnapshotNode<'_>) -> Result<(), Failure> {
        match self.before.checked_sub(1) {
            Some(before) => self.before = before,
            None => return Err(batches::refused(offset, node.path, &self.why)),
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(super) enum Failure {
    Io(io::Error),
    /// Offset in the uncompressed bytes.
    Damaged {
        offset_bytes: u64,
        what: String,
    },
    /// Whoever takes what is decoded wants no more, and knows why.
    GivenUp,
}

/// Reads one snapshot to its end into `into`. `field_bytes_max` bounds every path and every znode's data.
pub(super) fn decode(
    pieces: &mut dyn Pieces,
    field_bytes_max: usize,
    into: &mut dyn Sink,
) -> Result<Contents, Failure> {
    let copy = &mut |_: &[u8]| Ok(());
    let mut input = Input::new(pieces, copy, field_bytes_max);
    let mut contents = Contents::default();
    header(&mut input)?;
    body(&mut input, into, &mut contents)?;
    seal(&mut input, "first")?;
    tail(&mut input, &mut contents)?;
    contents.plain_bytes = input.offset();
    Ok(contents)
}

/// A body that a stream brought.
pub(super) struct Body {
    pub contents: Contents,
    /// Over a file's header and the body.
    pub checks: Checks,
    /// What was received behind the stream's end and is no part of it.
    pub rest: Vec<u8>,
}

/// Reads the body of a stream to its last word into `into`. Its bytes go to `copy` as they are taken, each once. Offsets
/// count as if a file's header stood before.
pub(super) fn decode_stream(
    pieces: &mut dyn Pieces,
    field_bytes_max: usize,
    into: &mut dyn Sink,
    copy: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<Body, Failure> {
    let mut input = Input::new(pieces, copy, field_bytes_max);
    input.checks.add(&encode::header());
    let mut contents = Contents::default();
    body(&mut input, into, &mut contents)?;
    contents.plain_bytes = input.offset();
    let checks = input.checks_here().clone();
    input.let_go()?;
    input.need(STREAM_END.len(), "the word at its end")?;
    if !input.held.starts_with(&STREAM_END) {
        return Err(input.damaged("the word BenWasHere does not follow the znodes"));
    }
    Ok(Body { contents, checks, rest: input.held.split_off(STREAM_END.len()) })
}

fn body(input: &mut Input<'_>, into: &mut dyn Sink, contents: &mut Contents) -> Result<(), Failure> {
    contents.sessions = sessions(input, into)?;
    contents.acls = acls(input, into)?;
    nodes(input, into, contents)
}

struct Input<'a> {
    pieces: &'a mut dyn Pieces,
    /// Gets all bytes that are let go.
    copy: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
    /// Bytes received and not yet let go; `at` is the read position in them.
    held: Vec<u8>,
    at: usize,
    /// `held` up to here is in `checks`.
    checked: usize,
    checks: Checks,
    field_bytes_max: usize,
}

impl<'a> Input<'a> {
    fn new(
        pieces: &'a mut dyn Pieces,
        copy: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
        field_bytes_max: usize,
    ) -> Input<'a> {
        Input { pieces, copy, held: Vec::new(), at: 0, checked: 0, checks: Checks::new(), field_bytes_max }
    }

    /// Of the read position, in the uncompressed file.
    fn offset(&self) -> u64 {
        self.checks.bytes + (self.at - self.checked) as u64
    }

    fn damaged(&self, what: impl Into<String>) -> Failure {
        Failure::Damaged { offset_bytes: self.offset(), what: what.into() }
    }

    /// Both checks over everything before the read position.
    fn checks_here(&mut self) -> &Checks {
        self.checks.add(&self.held[self.checked..self.at]);
        self.checked = self.at;
        &self.checks
    }

    /// Everything before the read position is done with.
    fn let_go(&mut self) -> Result<(), Failure> {
        self.checks_here();
        (self.copy)(&self.held[..self.at]).map_err(Failure::Io)?;
        self.held.drain(..self.at);
        (self.at, self.checked) = (0, 0);
        Ok(())
    }

    /// Receives until `n` bytes lie behind the read position; `false` when the file ends before that.
    fn fill(&mut self, n: usize) -> Result<bool, Failure> {
        while self.held.len() - self.at < n {
            if self.at > 0 {
                self.let_go()?;
            }
            match self.pieces.append(&mut self.held) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(e)
                    if e.kind() == io::ErrorKind::InvalidData || e.kind() == io::ErrorKind::UnexpectedEof =>
                {
                    return Err(self.damaged(format!("the compressed stream is damaged: {e}")));
                }
                Err(e) => return Err(Failure::Io(e)),
            }
        }
        Ok(true)
    }

    /// Like `fill`, where the format promises the bytes.
    fn need(&mut self, n: usize, what: &str) -> Result<(), Failure> {
        match self.fill(n)? {
            true => Ok(()),
            false => Err(self.damaged(format!("the file ends inside {what}"))),
        }
    }

    fn take<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Failure> {
        self.need(N, what)?;
        let bytes = *self.held[self.at..].first_chunk().expect("just filled");
        self.at += N;
        Ok(bytes)
    }

    fn int(&mut self, what: &str) -> Result<i32, Failure> {
        self.take(what).map(i32::from_be_bytes)
    }

    fn long(&mut self, what: &str) -> Result<i64, Failure> {
        self.take(what).map(i64::from_be_bytes)
    }

    /// The length word `ahead` bytes behind the read position: `None` is -1.
    fn length_ahead(&mut self, ahead: usize, what: &str) -> Result<Option<usize>, Failure> {
        self.need(ahead + 4, what)?;
        let raw = i32::from_be_bytes(*self.held[self.at + ahead..].first_chunk().expect("just filled"));
        match usize::try_from(raw) {
            Ok(length) if length <= self.field_bytes_max => Ok(Some(length)),
            Err(_) if raw == -1 => Ok(None),
            _ => Err(self.damaged(format!("unreasonable length {raw} of {what}"))),
        }
    }
}

fn header(input: &mut Input<'_>) -> Result<(), Failure> {
    input.need(16, "the header")?;
    if input.held[..4] != encode::MAGIC {
        return Err(input.damaged("no snapshot: the first word is not ZKSN"));
    }
    // Apache looks at the first word only. Ours and Apache's files have one version; another has an unknown layout.
    input.at = 4;
    let version = input.int("the header")?;
    if version != encode::FILE_VERSION {
        input.at = 4;
        return Err(input.damaged(format!("unknown file version {version}")));
    }
    input.long("the header").map(|_dbid| ())
}

/// A negative count is an empty table, as Apache's loops read it.
fn count(input: &mut Input<'_>, what: &str) -> Result<u64, Failure> {
    Ok(u64::try_from(input.int(what)?).unwrap_or(0))
}

fn sessions(input: &mut Input<'_>, into: &mut dyn Sink) -> Result<u64, Failure> {
    let count = count(input, "the session count")?;
    for _ in 0..count {
        input.need(12, "the sessions")?;
        let id = SessionId(input.long("the sessions")?);
        let timeout_ms = input.int("the sessions")?;
        into.session(input.offset(), id, timeout_ms)?;
    }
    Ok(count)
}

fn acls(input: &mut Input<'_>, into: &mut dyn Sink) -> Result<u64, Failure> {
    let count = count(input, "the ACL count")?;
    for _ in 0..count {
        let key = input.long("the ACL table")?;
        let length = acl_length(input)?;
        let acl = &input.held[input.at..input.at + length];
        into.acl(input.offset(), key, acl)?;
        input.at += length;
    }
    Ok(count)
}

/// Bytes of the vector of ACLs at the read position, all of them received.
fn acl_length(input: &mut Input<'_>) -> Result<usize, Failure> {
    const WHAT: &str = "an ACL";
    input.need(4, WHAT)?;
    let entries = i32::from_be_bytes(*input.held[input.at..].first_chunk().expect("just filled"));
    let mut length = 4;
    for _ in 0..entries {
        length += 4; // perms
        for _scheme_then_id in 0..2 {
            length += 4 + input.length_ahead(length, WHAT)?.unwrap_or(0);
        }
        if length > input.field_bytes_max {
            return Err(input.damaged("an ACL of unreasonable length"));
        }
    }
    input.need(length, WHAT)?;
    Ok(length)
}

fn nodes(input: &mut Input<'_>, into: &mut dyn Sink, contents: &mut Contents) -> Result<(), Failure> {
    loop {
        // path, data, then ACL key and Stat, measured before anything is taken.
        let path_bytes = input.length_ahead(0, "a znode's path")?.unwrap_or(0);
        input.need(4 + path_bytes, "a znode's path")?;
        if input.held[input.at..].starts_with(&SLASH) {
            input.at += SLASH.len();
            return Ok(());
        }
        let data_bytes = input.length_ahead(4 + path_bytes, "a znode's data")?;
        let data_end = 4 + path_bytes + 4 + data_bytes.unwrap_or(0);
        let length = data_end + 8 + STAT_BYTES;
        input.need(length, "a znode")?;
        let bytes = &input.held[input.at..input.at + length];
        let path = text(&bytes[4..4 + path_bytes]);
        let node = SnapshotNode {
            path: &path,
            data: data_bytes.map(|n| &bytes[data_end - n..data_end]),
            acl: long_at(bytes, data_end),
            stat: stat_at(bytes, data_end + 8),
        };
        into.node(input.offset(), node)?;
        contents.nodes += 1;
        contents.data_bytes += data_bytes.unwrap_or(0) as u64;
        input.at += length;
    }
}

/// Malformed bytes as Java's decoder takes them; well-formed ones, which are the rule, by the quicker check.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

fn long_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(*bytes[at..].first_chunk().expect("measured by the caller"))
}

fn int_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(*bytes[at..].first_chunk().expect("measured by the caller"))
}

fn stat_at(bytes: &[u8], at: usize) -> StatPersisted {
    let stat = &bytes[at..at + STAT_BYTES];
    StatPersisted {
        czxid: Zxid::from_wire(long_at(stat, 0)),
        mzxid: Zxid::from_wire(long_at(stat, 8)),
        ctime: WallMillis(long_at(stat, 16)),
        mtime: WallMillis(long_at(stat, 24)),
        version: int_at(stat, 32),
        cversion: int_at(stat, 36),
        aversion: int_at(stat, 40),
        owner: Owner::from_stored(long_at(stat, 44)),
        pzxid: Zxid::from_wire(long_at(stat, 52)),
    }
}

fn seal(input: &mut Input<'_>, which: &str) -> Result<(), Failure> {
    input.need(SEAL_BYTES, "a seal")?;
    let expected = i64::from(input.checks_here().adler.finish());
    let found = long_at(&input.held, input.at);
    if found != expected {
        return Err(input.damaged(format!(
            "the {which} seal does not match what is before it: {found:#x} is written, {expected:#x} computed"
        )));
    }
    input.at += 8;
    if input.held[input.at..input.at + SLASH.len()] != SLASH {
        return Err(input.damaged(format!("the {which} seal does not end as it must")));
    }
    input.at += SLASH.len();
    Ok(())
}

/// What may follow the first seal is known by its size alone, because each section can be switched off.
fn tail(input: &mut Input<'_>, contents: &mut Contents) -> Result<(), Failure> {
    const LAST_ZXID: usize = encode::LAST_ZXID_SECTION_BYTES + SEAL_BYTES;
    const DIGEST_BYTES_MAX: usize = encode::DIGEST_SECTION_BYTES + 64 + SEAL_BYTES;
    // One byte more than can be: to see whether there is more.
    if input.fill(DIGEST_BYTES_MAX + LAST_ZXID + encode::FOOTER_BYTES + 1)? {
        return Err(input.damaged("more bytes follow than any section has"));
    }
    let rest = &input.held[input.at..];
    let footer_at = rest.len().wrapping_sub(encode::FOOTER_BYTES);
    contents.footer = rest.get(footer_at..).is_some_and(|footer| footer.starts_with(&encode::FOOTER_MAGIC));
    let sections = if contents.footer { footer_at } else { rest.len() };
    let digest = digest_section_bytes(rest);
    // A footer behind fewer sections would be taken by Apache for one of them: nobody writes that.
    match sections {
        n if n == digest + LAST_ZXID => {
            digest_section(input, contents)?;
            last_zxid_section(input, contents)?;
        }
        LAST_ZXID if !contents.footer => last_zxid_section(input, contents)?,
        0 if !contents.footer => {}
        n if n == digest && !contents.footer => digest_section(input, contents)?,
        n => {
            return Err(
                input.damaged(format!("{n} bytes after the first seal are no sections of a snapshot"))
            );
        }
    }
    if contents.footer { footer(input) } else { Ok(()) }
}

/// Size of a digest section at the start of `rest`, its seal included, if one is there.
fn digest_section_bytes(rest: &[u8]) -> usize {
    if rest.len() >= 16 && int_at(rest, 8) < encode::DIGEST_VERSION {
        // Before version 2 the digest was a string of hex digits.
        let digits = usize::try_from(int_at(rest, 12)).unwrap_or(0);
        return 16usize.saturating_add(digits).saturating_add(SEAL_BYTES);
    }
    encode::DIGEST_SECTION_BYTES + SEAL_BYTES
}

fn digest_section(input: &mut Input<'_>, contents: &mut Contents) -> Result<(), Failure> {
    let zxid = Zxid::from_wire(input.long("the digest")?);
    let version = input.int("the digest")?;
    let value = if version < encode::DIGEST_VERSION {
        let digits = input.length_ahead(0, "the digest")?.unwrap_or(0);
        input.need(4 + digits, "the digest")?;
        input.at += 4 + digits;
        0
    } else {
        input.long("the digest")? as u64
    };
    contents.digest = Some(DigestSection { zxid, version, value });
    seal(input, "second")
}

fn last_zxid_section(input: &mut Input<'_>, contents: &mut Contents) -> Result<(), Failure> {
    contents.last_zxid = Some(Zxid::from_wire(input.long("the last zxid")?));
    seal(input, "last")
}

fn footer(input: &mut Input<'_>) -> Result<(), Failure> {
    let checks = input.checks_here();
    let (crc, bytes) = (checks.crc, checks.bytes);
    let at = input.at;
    let version = int_at(&input.held, at + 4);
    if version != encode::FOOTER_VERSION {
        return Err(input.damaged(format!("a footer of the unknown version {version}")));
    }
    if int_at(&input.held, at + 8) as u32 != crc {
        return Err(input.damaged("the footer's CRC32C does not match what is before it"));
    }
    if long_at(&input.held, at + 12) as u64 != bytes {
        return Err(input.damaged("the footer counts another number of bytes"));
    }
    if input.held[at + 20..at + encode::FOOTER_BYTES] != SLASH {
        return Err(input.damaged("the footer does not end as it must"));
    }
    input.at += encode::FOOTER_BYTES;
    Ok(())
}
