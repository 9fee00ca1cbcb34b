//! Apache's shell commands on znodes, ACLs and watches: one function each, from words to requests to text.
//! Not here: the connection (session), quotas (quota), the loop that reads lines (mod).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::format;
use super::options::Options;
use super::session::WatchKind;
use super::wire::{self, Acl, Body, Fields, Stat, op};
use super::{CliError, Shell};

type Outcome = Result<(), CliError>;

const OPEN_ACL: (i32, &str, &str) = (31, "world", "anyone");
/// Deletes in one multi of `deleteall` when `-b` does not say otherwise.
const DELETE_BATCH_DEFAULT: usize = 1000;
/// A TTL has 40 bits of the ephemeral owner.
const TTL_MS_MAX: i64 = (1 << 40) - 1;
/// Apache's shell has the client complain of an empty list, and the client knows no path.
const NO_ACL: &str = "Acl is not valid : null";
const CONFIG_PATH: &str = "/zookeeper/config";

/// What usage says of each option of two commands; Apache describes no others.
const GET_OPTIONS: &str = "
 -b   Output data in base64 format
 -s   Print znode stats additionally
 -w   Watch for changes on the znode
 -x   Output data in hexdump format";
const SET_OPTIONS: &str = "
 -b         Supply data in base64 format
 -s         Print znode stats additionally
 -v <arg>   Set with an expected version";

/// Name, usage behind the name, and what runs it.
pub struct Command {
    pub name: &'static str,
    pub usage: &'static str,
    pub run: fn(&mut Shell, &[String]) -> Outcome,
}

/// Sorted by name as `help` prints them.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "addWatch",
        usage: "[-m mode] path # optional mode is one of [PERSISTENT, PERSISTENT_RECURSIVE] - default is PERSISTENT_RECURSIVE",
        run: add_watch,
    },
    Command { name: "addauth", usage: "scheme auth", run: add_auth },
    Command { name: "config", usage: "[-c] [-w] [-s]", run: config },
    Command { name: "create", usage: "[-s] [-e] [-c] [-t ttl] path [data] [acl]", run: create },
    Command { name: "delete", usage: "[-v version] path", run: delete },
    Command { name: "deleteall", usage: "path [-b batch size]", run: delete_all },
    Command { name: "delquota", usage: "[-n|-b|-N|-B] path", run: super::quota::delete },
    Command { name: "get", usage: "[-s] [-w] [-b] [-x] path", run: get },
    Command { name: "getAcl", usage: "[-s] path", run: get_acl },
    Command { name: "getAllChildrenNumber", usage: "path", run: get_all_children_number },
    Command { name: "getEphemerals", usage: "path", run: get_ephemerals },
    Command { name: "listquota", usage: "path", run: super::quota::list },
    Command { name: "ls", usage: "[-s] [-w] [-R] path", run: ls },
    Command {
        name: "reconfig",
        usage: "[-s] [-v version] [[-file path] | [-members serverID=host:port1:port2;port3[,...]*]] | \
                [-add serverId=host:port1:port2;port3[,...]]* [-remove serverId[,...]*]",
        run: reconfig,
    },
    Command { name: "removewatches", usage: "path [-c|-d|-a] [-l]", run: remove_watches },
    Command { name: "set", usage: "path data [-s] [-v version] [-b]", run: set },
    Command { name: "setAcl", usage: "[-s] [-v version] [-R] path acl", run: set_acl },
    Command { name: "setquota", usage: "-n|-b|-N|-B val path", run: super::quota::set },
    Command { name: "stat", usage: "[-w] path", run: stat },
    Command { name: "sync", usage: "path", run: sync },
    Command { name: "whoami", usage: "", run: whoami },
];

/// Operand `at`, or the command's usage as the complaint.
fn operand<'a>(options: &'a Options, at: usize, name: &str) -> Result<&'a str, CliError> {
    options.operands.get(at).map(String::as_str).ok_or_else(|| usage_of(name))
}

pub fn usage_of(name: &str) -> CliError {
    let usage = COMMANDS.iter().find(|c| c.name == name).map_or("", |c| c.usage);
    let options = match name {
        "get" => GET_OPTIONS,
        "set" => SET_OPTIONS,
        _ => "",
    };
    CliError::Malformed(format!("{name} {usage}{options}"))
}

/// The flags in a command's usage, in its order.
pub fn flags(name: &str) -> Vec<&'static str> {
    let usage = COMMANDS.iter().find(|command| command.name == name).map_or("", |command| command.usage);
    let usage = usage.split('#').next().unwrap_or_default();
    let mut flags: Vec<&str> = Vec::new();
    for word in usage.split(|c: char| c.is_whitespace() || "[]|*".contains(c)) {
        if word.starts_with('-') && !flags.contains(&word) {
            flags.push(word);
        }
    }
    flags
}

/// `command path watch` of old still works, with a hint.
fn old_watch_form(options: &Options, name: &str, form: &str) -> bool {
    let old = options.operands.len() > 1;
    if old {
        eprintln!("'{name} path [watch]' has been deprecated. Please use '{form}' instead.");
    }
    old
}

/// `-v`; without it any version, -1. Apache's shell no longer honours a version written as an operand.
fn version(options: &Options) -> Result<i32, CliError> {
    Ok(options.number("v")?.unwrap_or(-1))
}

fn print_stat(stat: &Stat) {
    println!("{}", format::stat_block(stat));
}

impl Shell {
    pub fn get_data(&mut self, path: &str, watch: bool) -> Result<(Option<Vec<u8>>, Stat), CliError> {
        let body = Body::new().text(&self.full(path)).flag(watch).done();
        let reply = self.call(op::GET_DATA, &body, path)?;
        let mut fields = Fields(&reply);
        let data = fields.buffer().ok_or(CliError::BadReply)?.map(<[u8]>::to_vec);
        Ok((data, fields.stat().ok_or(CliError::BadReply)?))
    }

    pub fn exists(&mut self, path: &str, watch: bool) -> Result<Option<Stat>, CliError> {
        let body = Body::new().text(&self.full(path)).flag(watch).done();
        match self.call(op::EXISTS, &body, path) {
            Ok(reply) => Fields(&reply).stat().ok_or(CliError::BadReply).map(Some),
            Err(CliError::Code { code: -101, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub fn children(&mut self, path: &str, watch: bool) -> Result<(Vec<String>, Stat), CliError> {
        let body = Body::new().text(&self.full(path)).flag(watch).done();
        let reply = self.call(op::GET_CHILDREN2, &body, path)?;
        let mut fields = Fields(&reply);
        let mut names = fields.texts().ok_or(CliError::BadReply)?;
        names.sort();
        Ok((names, fields.stat().ok_or(CliError::BadReply)?))
    }

    pub fn set_data(&mut self, path: &str, data: &[u8], version: i32) -> Result<Stat, CliError> {
        let body = Body::new().text(&self.full(path)).buffer(Some(data)).int(version).done();
        let reply = self.call(op::SET_DATA, &body, path)?;
        Fields(&reply).stat().ok_or(CliError::BadReply)
    }

    pub fn create_persistent(&mut self, path: &str, data: &[u8]) -> Outcome {
        let body = Body::new().text(&self.full(path)).buffer(Some(data)).acls(&open_acl()).int(0).done();
        self.call(op::CREATE, &body, path).map(|_| ())
    }

    pub fn delete_node(&mut self, path: &str, version: i32) -> Outcome {
        let body = Body::new().text(&self.full(path)).int(version).done();
        self.call(op::DELETE, &body, path).map(|_| ())
    }

    /// Every path of the subtree, parents before children.
    pub fn subtree(&mut self, root: &str) -> Result<Vec<String>, CliError> {
        let mut paths = vec![root.to_string()];
        let mut at = 0;
        while at < paths.len() {
            let path = paths[at].clone();
            at += 1;
            match self.children(&path, false) {
                Ok((names, _)) => paths.extend(names.iter().map(|name| join(&path, name))),
                // Somebody else deleted it meanwhile.
                Err(CliError::Code { code: -101, .. }) if path != root => {}
                Err(e) => return Err(e),
            }
        }
        Ok(paths)
    }
}

pub fn join(path: &str, name: &str) -> String {
    if path == "/" { format!("/{name}") } else { format!("{path}/{name}") }
}

fn open_acl() -> Vec<Acl> {
    vec![Acl { perms: OPEN_ACL.0, scheme: OPEN_ACL.1.to_string(), id: OPEN_ACL.2.to_string() }]
}

/// Apache's shell and client check paths before they send them.
pub fn check_path(path: &str) -> Result<&str, CliError> {
    let complaint = if path.is_empty() {
        "Path length must be > 0".to_string()
    } else if !path.starts_with('/') {
        "Path must start with / character".to_string()
    } else if path.len() > 1 && path.ends_with('/') {
        "Path must not end with / character".to_string()
    } else if let Some(reason) = path_fault(path) {
        format!("Invalid path string \"{path}\" caused by {reason}")
    } else {
        return Ok(path);
    };
    Err(CliError::Malformed(complaint))
}

/// The first thing wrong inside an absolute path, at its UTF-16 unit.
fn path_fault(path: &str) -> Option<String> {
    let units: Vec<u16> = path.encode_utf16().collect();
    let (slash, dot) = (u16::from(b'/'), u16::from(b'.'));
    let component_ends = |at: usize| units.get(at + 1).is_none_or(|next| *next == slash);
    (1..units.len()).find_map(|at| {
        let reason = match units[at] {
            0 => "null character not allowed",
            unit if unit == slash && units[at - 1] == slash => "empty node name specified",
            unit if unit == dot && component_ends(at) && units[..at].ends_with(&[slash]) => {
                "relative paths not allowed"
            }
            unit if unit == dot && component_ends(at) && units[..at].ends_with(&[slash, dot]) => {
                "relative paths not allowed"
            }
            0x01..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0.. => "invalid character",
            _ => return None,
        };
        Some(format!("{reason} @{at}"))
    })
}

fn create(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &["s", "e", "c"], &["t"])?;
    let path = operand(&options, 0, "create")?;
    let (sequential, ephemeral, container) = (options.has("s"), options.has("e"), options.has("c"));
    if container && (sequential || ephemeral) {
        return Err(CliError::Malformed(
            "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.".into(),
        ));
    }
    let ttl = ttl(options.value("t"))?;
    if ttl.is_some() && (ephemeral || container) {
        let kind = if ephemeral { "Ephemeral" } else { "Container" };
        return Err(CliError::Malformed(format!("TTLs cannot be used with {kind} znodes")));
    }
    let data = options.operands.get(1).map(|text| text.as_bytes());
    let acls = match options.operands.get(2) {
        Some(text) => format::parse_acls(text)
            .map_err(|e| CliError::Malformed(format!("{e}\nKeeperErrorCode = InvalidACL\n{NO_ACL}")))?,
        None => open_acl(),
    };
    // A sequential path is checked with a digit for the number to come.
    check_path(&if sequential { format!("{path}1") } else { path.to_string() })?;
    let flags = match (ttl, container) {
        (Some(_), _) => 5 + i32::from(sequential),
        (None, true) => 4,
        (None, false) => i32::from(ephemeral) + 2 * i32::from(sequential),
    };
    let body = Body::new().text(&shell.full(path)).buffer(data).acls(&acls).int(flags);
    let (op, body) = match ttl {
        Some(ttl) => (op::CREATE_TTL, body.long(ttl)),
        None if container => (op::CREATE_CONTAINER, body),
        None => (op::CREATE2, body),
    };
    let reply = shell.call(op, &body.done(), path).inspect_err(|e| {
        if matches!(e, CliError::Code { code: -114, .. }) {
            eprintln!("KeeperErrorCode = InvalidACL for {path}");
        }
    })?;
    let created = Fields(&reply).text().ok_or(CliError::BadReply)?;
    eprintln!("Created {}", shell.shown(&created));
    Ok(())
}

/// Of a znode that is to live so long, in ms.
fn ttl(text: Option<&str>) -> Result<Option<i64>, CliError> {
    let Some(text) = text else { return Ok(None) };
    let Ok(ttl) = text.parse() else {
        return Err(CliError::Malformed("-t argument must be a long value".into()));
    };
    if !(1..=TTL_MS_MAX).contains(&ttl) {
        let complaint = format!("ttl must be positive and cannot be larger than: {TTL_MS_MAX}");
        return Err(CliError::Malformed(complaint));
    }
    Ok(Some(ttl))
}

fn delete(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &[], &["v"])?;
    let path = check_path(operand(&options, 0, "delete")?)?;
    if options.operands.len() > 1 {
        eprintln!(
            "'delete path [version]' has been deprecated. Please use 'delete [-v version] path' instead."
        );
    }
    shell.delete_node(path, version(&options)?)
}

fn delete_all(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &[], &["b"])?;
    let path = check_path(operand(&options, 0, "deleteall")?)?;
    let batch = delete_batch(options.value("b"))?;
    let mut paths = shell.subtree(path)?;
    paths.reverse();
    let mut failed = 0;
    for group in paths.chunks(batch) {
        let body = group.iter().fold(Body::new(), |body, path| {
            body.int(op::DELETE).flag(false).int(-1).text(&shell.full(path)).int(-1)
        });
        let reply = shell.call(op::MULTI, &body.int(-1).flag(true).int(-1).done(), path)?;
        failed += usize::from(Fields(&reply).int() == Some(-1) && !group.is_empty());
    }
    if failed > 0 {
        eprintln!("Failed to delete some node(s) in the subtree!");
    }
    Ok(())
}

/// Apache's shell takes 0 and less, too, and deletes all the same.
fn delete_batch(text: Option<&str>) -> Result<usize, CliError> {
    let Some(text) = text else { return Ok(DELETE_BATCH_DEFAULT) };
    let Ok(batch) = text.parse::<i32>() else {
        return Err(CliError::Malformed("-b argument must be an int value".into()));
    };
    Ok(usize::try_from(batch).ok().filter(|batch| *batch > 0).unwrap_or(DELETE_BATCH_DEFAULT))
}

fn get(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &["s", "w", "b", "x"], &[])?;
    let path = check_path(operand(&options, 0, "get")?)?;
    let watch = old_watch_form(&options, "get", "get [-s] [-w] path") || options.has("w");
    let (data, stat) = shell.get_data(path, watch)?;
    shell.watching(watch, WatchKind::Data, path);
    // No data is the word null, in whichever form.
    let data = data.unwrap_or_else(|| b"null".to_vec());
    match () {
        () if options.has("x") => println!("{}", format::hexdump(&data)),
        () if options.has("b") => println!("{}", BASE64.encode(data)),
        () => println!("{}", String::from_utf8_lossy(&data)),
    }
    if options.has("s") {
        print_stat(&stat);
    }
    Ok(())
}

fn set(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &["s", "b"], &["v"])?;
    let path = check_path(operand(&options, 0, "set")?)?;
    let text = operand(&options, 1, "set")?;
    let data = if options.has("b") {
        BASE64.decode(text).map_err(|e| CliError::Malformed(format!("not base64: {e}")))?
    } else {
        text.as_bytes().to_vec()
    };
    let stat = shell.set_data(path, &data, version(&options)?)?;
    if options.has("s") {
        print_stat(&stat);
    }
    Ok(())
}

fn ls(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &["s", "w", "R"], &[])?;
    let path = check_path(operand(&options, 0, "ls")?)?;
    if options.has("R") {
        return list_recursively(shell, path);
    }
    let watch = old_watch_form(&options, "ls", "ls [-w] path") || options.has("w");
    let (names, stat) = shell.children(path, watch)?;
    shell.watching(watch, WatchKind::Child, path);
    println!("[{}]", names.join(", "));
    if options.has("s") {
        print_stat(&stat);
    }
    Ok(())
}

/// The children of a znode together and in order, then what is below the first of them, and so on.
fn list_recursively(shell: &mut Shell, root: &str) -> Outcome {
    shell.get_data(root, false)?;
    println!("{root}");
    let mut stack = vec![root.to_string()];
    while let Some(path) = stack.pop() {
        match shell.children(&path, false) {
            Ok((names, _)) => {
                let below: Vec<String> = names.iter().map(|name| join(&path, name)).collect();
                below.iter().for_each(|path| println!("{path}"));
                stack.extend(below.into_iter().rev());
            }
            // Somebody else deleted it meanwhile.
            Err(CliError::Code { code: -101, .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn stat(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &["w"], &[])?;
    let path = check_path(operand(&options, 0, "stat")?)?;
    let watch = old_watch_form(&options, "stat", "stat [-w] path") || options.has("w");
    let stat = shell.exists(path, watch)?;
    shell.watching(watch, if stat.is_some() { WatchKind::Data } else { WatchKind::Exist }, path);
    match stat {
        Some(stat) => {
            print_stat(&stat);
            Ok(())
        }
        None => Err(CliError::Code { code: -101, path: path.to_string() }),
    }
}

fn get_acl(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &["s"], &[])?;
    let path = check_path(operand(&options, 0, "getAcl")?)?;
    let reply = shell.call(op::GET_ACL, &Body::new().text(&shell.full(path)).done(), path)?;
    let mut fields = Fields(&reply);
    for acl in fields.acls().ok_or(CliError::BadReply)? {
        println!("{}", format::acl_lines(&acl));
    }
    if options.has("s") {
        print_stat(&fields.stat().ok_or(CliError::BadReply)?);
    }
    Ok(())
}

fn set_acl(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &["s", "R"], &["v"])?;
    let path = check_path(operand(&options, 0, "setAcl")?)?;
    let acls = format::parse_acls(operand(&options, 1, "setAcl")?)
        .map_err(|e| CliError::Malformed(format!("{e}\n{NO_ACL}")))?;
    let version = version(&options)?;
    let paths = if options.has("R") { shell.subtree(path)? } else { vec![path.to_string()] };
    for path in paths {
        let body = Body::new().text(&shell.full(&path)).acls(&acls).int(version).done();
        let reply = shell.call(op::SET_ACL, &body, &path)?;
        if options.has("s") {
            print_stat(&Fields(&reply).stat().ok_or(CliError::BadReply)?);
        }
    }
    Ok(())
}

fn sync(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &[], &[])?;
    let path = check_path(operand(&options, 0, "sync")?)?;
    match shell.call(op::SYNC, &Body::new().text(&shell.full(path)).done(), path) {
        Ok(_) => println!("Sync is OK"),
        Err(CliError::Code { code, .. }) => println!("Sync has failed. rc={code}"),
        Err(e) => return Err(e),
    }
    Ok(())
}

fn add_auth(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &[], &[])?;
    let scheme = operand(&options, 0, "addauth")?;
    let auth = options.operands.get(1).map(|text| text.as_bytes());
    shell.session()?.add_auth(scheme, auth);
    Ok(())
}

fn whoami(shell: &mut Shell, _words: &[String]) -> Outcome {
    let reply = shell.call(op::WHO_AM_I, &[], "/")?;
    let mut fields = Fields(&reply);
    println!("Auth scheme: User");
    for _ in 0..fields.int().ok_or(CliError::BadReply)? {
        let scheme = fields.text().ok_or(CliError::BadReply)?;
        println!("{scheme}: {}", fields.text().ok_or(CliError::BadReply)?);
    }
    Ok(())
}

fn get_ephemerals(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &[], &[])?;
    let path = check_path(options.operands.first().map_or("/", String::as_str))?;
    let reply = shell.call(op::GET_EPHEMERALS, &Body::new().text(&shell.full(path)).done(), path)?;
    let paths = Fields(&reply).texts().ok_or(CliError::BadReply)?;
    let shown: Vec<String> = paths.iter().map(|path| shell.shown(path)).collect();
    println!("[{}]", shown.join(", "));
    Ok(())
}

fn get_all_children_number(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &[], &[])?;
    let path = check_path(operand(&options, 0, "getAllChildrenNumber")?)?;
    let reply = shell.call(op::GET_ALL_CHILDREN_NUMBER, &Body::new().text(&shell.full(path)).done(), path)?;
    println!("{}", Fields(&reply).int().ok_or(CliError::BadReply)?);
    Ok(())
}

fn add_watch(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &[], &["m"])?;
    let path = check_path(operand(&options, 0, "addWatch")?)?;
    let (mode, kind) = match options.value("m").unwrap_or("PERSISTENT_RECURSIVE").to_uppercase().as_str() {
        "PERSISTENT" => (0, WatchKind::Persistent),
        "PERSISTENT_RECURSIVE" => (1, WatchKind::Recursive),
        _ => return Err(usage_of("addWatch")),
    };
    shell.call(op::ADD_WATCH, &Body::new().text(&shell.full(path)).int(mode).done(), path)?;
    shell.watching(true, kind, path);
    Ok(())
}

fn remove_watches(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &["c", "d", "p", "r", "a", "l"], &[])?;
    let path = check_path(operand(&options, 0, "removewatches")?)?;
    use WatchKind::{Child, Data, Exist, Persistent, Recursive};
    let (kind, covered): (i32, &[WatchKind]) = match () {
        () if options.has("c") => (1, &[Child]),
        () if options.has("d") => (2, &[Data, Exist]),
        () if options.has("p") => (4, &[Persistent]),
        () if options.has("r") => (5, &[Recursive]),
        () => (3, &[Child, Data, Exist, Persistent, Recursive]),
    };
    let full = shell.full(path);
    let had: Vec<WatchKind> = shell
        .session()?
        .watches(|watches| covered.iter().copied().filter(|kind| watches.contains(*kind, &full)).collect());
    if had.is_empty() {
        return Err(CliError::Code { code: -121, path: path.to_string() });
    }
    let outcome = shell.call(op::REMOVE_WATCHES, &Body::new().text(&full).int(kind).done(), path);
    // -l: the client forgets its watches even when the server could not be reached.
    match outcome {
        Ok(_) => {}
        Err(CliError::Lost { .. }) if options.has("l") => {}
        Err(e) => return Err(e),
    }
    shell.session()?.watches(|watches| {
        for kind in &had {
            watches.remove(*kind, &full);
        }
    });
    let mut announced = Vec::new();
    for kind in had {
        let event = match kind {
            Child => wire::CHILD_WATCH_REMOVED,
            Data | Exist => wire::DATA_WATCH_REMOVED,
            Persistent | Recursive => wire::PERSISTENT_WATCH_REMOVED,
        };
        if !announced.contains(&event) {
            announced.push(event);
            shell.announce(event, path);
        }
    }
    Ok(())
}

fn config(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &["c", "w", "s"], &[])?;
    let body = Body::new().text(CONFIG_PATH).flag(options.has("w")).done();
    let reply = shell.call(op::GET_DATA, &body, CONFIG_PATH)?;
    let mut fields = Fields(&reply);
    let data = fields.buffer().ok_or(CliError::BadReply)?.unwrap_or_default();
    let text = String::from_utf8_lossy(data).into_owned();
    println!("{}", if options.has("c") { client_addresses(&text) } else { text });
    if options.has("s") {
        print_stat(&fields.stat().ok_or(CliError::BadReply)?);
    }
    Ok(())
}

/// `<version> host:port,host:port` of a membership text.
fn client_addresses(config: &str) -> String {
    let mut version = "";
    let mut addresses = Vec::new();
    for line in config.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        match value.rsplit_once(';') {
            _ if key == "version" => version = value,
            Some((_, address)) if key.starts_with("server.") => addresses.push(address),
            _ => {}
        }
    }
    format!("{version} {}", addresses.join(","))
}

fn reconfig(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &["s"], &["v", "file", "members", "add", "remove"])?;
    let version = match options.value("v") {
        Some(hex) => i64::from_str_radix(hex, 16)
            .map_err(|_| CliError::Malformed(format!("-v: '{hex}' is not a hexadecimal version")))?,
        None => -1,
    };
    let lower = |name| options.value(name).map(str::to_lowercase);
    let (joining, leaving, mut members) = (lower("add"), lower("remove"), lower("members"));
    if let Some(file) = options.value("file") {
        let text = std::fs::read_to_string(file)
            .map_err(|e| CliError::Malformed(format!("Error processing {file}: {e}")))?;
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("server.")).collect();
        members = Some(lines.join(",").to_lowercase());
    }
    if members.is_some() == (joining.is_some() || leaving.is_some()) {
        return Err(usage_of("reconfig"));
    }
    let body = [joining, leaving, members]
        .iter()
        .fold(Body::new(), |body, list| body.buffer(list.as_deref().map(str::as_bytes)));
    let reply = shell.call(op::RECONFIG, &body.long(version).done(), CONFIG_PATH)?;
    let mut fields = Fields(&reply);
    let text = fields.buffer().ok_or(CliError::BadReply)?.unwrap_or_default();
    println!("Committed new configuration:\n{}", String::from_utf8_lossy(text));
    if options.has("s") {
        print_stat(&fields.stat().ok_or(CliError::BadReply)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_those_of_the_usage() {
        let check = |name: &str, expected: &[&str]| assert_eq!(flags(name), expected);
        check("create", &["-s", "-e", "-c", "-t"]);
        check("setquota", &["-n", "-b", "-N", "-B"]);
        check("reconfig", &["-s", "-v", "-file", "-members", "-add", "-remove"]);
        check("addWatch", &["-m"]);
        check("whoami", &[]);
        check("nonsense", &[]);
    }

    #[track_caller]
    fn check<T>(outcome: Result<T, CliError>, complaint: &str) {
        assert_eq!(outcome.err().map(|e| e.to_string()).unwrap_or_default(), complaint);
    }

    #[test]
    fn paths_are_checked_before_they_are_sent() {
        for fine in ["/", "/a", "/a/.b", "/a/..b", "/a/b.", "/a/...", "/\u{e9}"] {
            check(check_path(fine), "");
        }
        check(check_path(""), "Path length must be > 0");
        check(check_path("a"), "Path must start with / character");
        check(check_path("/a/"), "Path must not end with / character");
        for (path, reason) in [
            ("//bad", "empty node name specified @1"),
            ("/a/../b", "relative paths not allowed @4"),
            ("/a/./b", "relative paths not allowed @3"),
            ("/a/..", "relative paths not allowed @4"),
            ("/.", "relative paths not allowed @1"),
            ("/a\0", "null character not allowed @2"),
            ("/a\t", "invalid character @2"),
            ("/\u{1f600}", "invalid character @1"),
        ] {
            check(check_path(path), &format!("Invalid path string \"{path}\" caused by {reason}"));
        }
    }

    #[test]
    fn ttls_have_forty_bits() {
        check(ttl(None), "");
        check(ttl(Some("1099511627775")), "");
        check(ttl(Some("abc")), "-t argument must be a long value");
        for outside in ["0", "-5", "1099511627776"] {
            check(ttl(Some(outside)), "ttl must be positive and cannot be larger than: 1099511627775");
        }
    }

    #[test]
    fn batches_of_deletes_may_be_nonsense() {
        check(delete_batch(Some("abc")), "-b argument must be an int value");
        for (text, batch) in [(None, 1000), (Some("10"), 10), (Some("0"), 1000), (Some("-3"), 1000)] {
            assert_eq!(delete_batch(text).unwrap(), batch);
        }
    }

    #[test]
    fn usage_describes_the_options_of_get_and_set() {
        check(
            Err::<(), _>(usage_of("set")),
            "set path data [-s] [-v version] [-b]\n -b         Supply data in base64 format\n \
             -s         Print znode stats additionally\n -v <arg>   Set with an expected version",
        );
        assert!(usage_of("get").to_string().ends_with("\n -x   Output data in hexdump format"));
        check(Err::<(), _>(usage_of("stat")), "stat [-w] path");
    }
}
