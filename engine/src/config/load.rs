//! From a command line, a `zoo.cfg`, `-D` flags and the environment to one validated `Config` and a list of notices.
//! The only module that reads the environment. Precedence is Apache's: keys in the file overwrite `-D` flags; keys the
//! file parser knows by name have no flag at all.
//! Not here: the grammar (`properties`), the table of keys (`keys`), what server lines make of a server (`membership`).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use ostler_replication::{BadMembers, Members, ServerId};

use super::ensemble::EnsembleSettings;
use super::hints;
use super::keys::{self, Fate, Key, Property};
use super::properties;
use super::{Config, Listener, Words};
use crate::limits;

/// What the process was told from outside, taken once. Tests make their own.
#[derive(Clone, Default, Debug)]
pub struct Environment {
    pub variables: BTreeMap<String, String>,
}

impl Environment {
    /// The environment of this process. Values that are not UTF-8 are taken lossily.
    pub fn of_process() -> Environment {
        let variables = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        Environment { variables }
    }

    /// A variable that is set to something.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Where a server that was told nothing keeps its data: `$OSTLER_DATA_DIR`, else `ostler` in the user's state
    /// directory (XDG), else `ostler-data` in the working directory.
    pub fn data_dir(&self) -> PathBuf {
        if let Some(given) = self.get("OSTLER_DATA_DIR") {
            return given.into();
        }
        let state = self.get("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
        let home = || self.get("HOME").map(|home| Path::new(home).join(".local/state"));
        let state = state.or_else(home).filter(|dir| dir.is_absolute());
        state.map_or_else(|| "ostler-data".into(), |dir| dir.join("ostler"))
    }
}

/// Where a setting was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    File {
        path: PathBuf,
        line: usize,
    },
    /// A `-D` flag in this variable, or on the command line.
    Flag {
        place: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Flag { place } => f.write_str(place),
        }
    }
}

/// One setting as it was found, in the order it took effect. For `ostler check`.
pub struct Setting {
    pub origin: Origin,
    pub spelling: String,
    pub value: String,
    /// `None` when no key of ZooKeeper is called so.
    pub key: Option<&'static Key>,
    /// False where it stands in a place from which this key is not taken; a notice says why.
    pub is_taken: bool,
}

/// How much a notice matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    Info,
    Warning,
    /// Durability, agreement or access control is weaker than usual.
    Danger,
}

/// Something the operator should read at start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    pub severity: Severity,
    pub text: String,
}

/// A validated configuration and what is to be said about it.
pub struct Loaded {
    pub config: Config,
    pub notices: Vec<Notice>,
    pub settings: Vec<Setting>,
}

/// Why there is no configuration. Every message says where and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}:{line}: `\\u` must be followed by four hexadecimal digits; write `\\\\u` for a backslash", path.display())]
    Escape { path: PathBuf, line: usize },
    #[error("{origin}: {key}={value} is not valid: this should be {wanted}")]
    Value { origin: Origin, key: String, value: String, wanted: String },
    /// Settings that are valid one by one and not together.
    #[error("{place}: {problem}")]
    Contradiction { place: String, problem: String },
    #[error("usage: {0}")]
    Usage(String),
}

const POSITIONAL: &str = "ostler server [zoo.cfg], or ostler server <clientPort> <dataDir> [tickTime] [maxClientCnxns], and any -Dname=value";

/// The configuration that a command line asks for. Words beginning with `-D` are flags; of the others, none means the
/// embedded defaults on port 2181, one is a file, two to four are Apache's positional form.
pub fn load(arguments: &[String], environment: &Environment) -> Result<Loaded, ConfigError> {
    let (flags, words): (Vec<&String>, Vec<&String>) =
        arguments.iter().partition(|word| word.starts_with("-D"));
    let mut reader = Reader::new(environment, &flags);
    match words.as_slice() {
        [] => {
            let dir = environment.data_dir();
            reader.draft.config = Config {
                client: Some(Listener::loopback(2181)),
                ..Config::embedded(std::path::absolute(&dir).unwrap_or(dir))
            };
            reader.start_from_defaults();
            reader.finish(None)
        }
        [file] => {
            let path = PathBuf::from(file);
            let bytes = std::fs::read(&path)
                .map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
            reader.read_file(&path, &bytes)?;
            reader.finish(Some(path))
        }
        [port, data_dir, rest @ ..] if rest.len() <= 2 => {
            let place = || Origin::Flag { place: "command line".into() };
            reader.positional("clientPort", port, place())?;
            reader.positional("dataDir", data_dir, place())?;
            for (key, value) in ["tickTime", "maxClientCnxns"].into_iter().zip(rest) {
                reader.positional(key, value, place())?;
            }
            reader.finish(None)
        }
        _ => Err(ConfigError::Usage(POSITIONAL.to_owned())),
    }
}

/// As `load` with one file, from its bytes. For tests and for `ostler check -`.
pub fn load_file(path: &Path, bytes: &[u8], environment: &Environment) -> Result<Loaded, ConfigError> {
    let mut reader = Reader::new(environment, &[]);
    reader.read_file(path, bytes)?;
    reader.finish(Some(path.to_path_buf()))
}

/// A configuration in the making: a `Config`, and raw values that only make sense together.
pub struct Draft {
    pub(super) config: Config,
    pub(super) client_port: u16,
    /// Then even 0 is a port: the kernel picks one.
    pub(super) client_port_given: bool,
    pub(super) client_host: Option<String>,
    pub(super) secure_port: u16,
    pub(super) secure_host: Option<String>,
    pub(super) backlog: Option<u32>,
    pub(super) data_dir: Option<String>,
    pub(super) data_log_dir: Option<String>,
    /// -1 = by tickTime.
    pub(super) timeout_least: i64,
    pub(super) timeout_most: i64,
    pub(super) snap_count: i64,
    pub(super) purge_keep: i64,
    pub(super) flush_idle: Option<u64>,
    pub(super) frame_extra: Option<u32>,
    pub(super) dynamic_file: Option<String>,
    pub(super) standalone: bool,
    pub(super) read_only_mode: bool,
    pub(super) require_sasl: bool,
    pub(super) enforce_auth: bool,
    pub(super) ensemble: EnsembleSettings,
    /// `peerType=observer`.
    pub(super) is_observer: bool,
    providers: Vec<(String, String)>,
    /// Each is right by itself.
    pub(super) servers: Vec<ServerLine>,
    /// The first `group.*` or `weight.*` line.
    pub(super) hierarchical: Option<Origin>,
}

/// A `server.N` line as it stands somewhere.
pub(super) struct ServerLine {
    pub origin: Origin,
    pub key: String,
    pub value: String,
}

impl ServerLine {
    pub fn id(&self) -> Option<ServerId> {
        self.key.strip_prefix("server.")?.parse().ok().map(ServerId)
    }
}

impl Draft {
    fn new() -> Draft {
        Draft {
            config: Config::default(),
            client_port: 0,
            client_port_given: false,
            client_host: None,
            secure_port: 0,
            secure_host: None,
            backlog: None,
            data_dir: None,
            data_log_dir: None,
            timeout_least: -1,
            timeout_most: -1,
            snap_count: i64::from(limits::SNAP_TXNS_DEFAULT),
            purge_keep: i64::from(limits::SNAPSHOTS_KEPT_LEAST),
            flush_idle: None,
            frame_extra: None,
            dynamic_file: None,
            standalone: true,
            read_only_mode: false,
            require_sasl: false,
            enforce_auth: false,
            ensemble: EnsembleSettings::default(),
            is_observer: false,
            providers: Vec::new(),
            servers: Vec::new(),
            hierarchical: None,
        }
    }

    /// `srvr` is always there, because `zkServer.sh status` asks it.
    pub(super) fn set_words(&mut self, list: &str) {
        let mut words: Vec<String> = Vec::new();
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()).chain(["srvr"]) {
            if !words.iter().any(|known| known == word) {
                words.push(word.to_owned());
            }
        }
        self.config.words =
            if words.iter().any(|word| word == "*") { Words::All } else { Words::Only(words) };
    }
}

pub(super) struct Reader {
    pub(super) draft: Draft,
    notices: Vec<Notice>,
    pub(super) settings: Vec<Setting>,
    /// True when there is no file and no positional form: `draft.config` already says everything.
    embedded: bool,
    flags: Vec<(Origin, String, String)>,
}

impl Reader {
    fn new(environment: &Environment, command_line: &[&String]) -> Reader {
        let mut reader = Reader {
            draft: Draft::new(),
            notices: Vec::new(),
            settings: Vec::new(),
            embedded: false,
            flags: Vec::new(),
        };
        // The last flag of a name wins in Java; the start script puts SERVER_JVMFLAGS first.
        for variable in ["SERVER_JVMFLAGS", "JVMFLAGS"] {
            let words = environment.get(variable).unwrap_or_default();
            let (flags, others): (Vec<&str>, Vec<&str>) =
                words.split_whitespace().partition(|word| word.starts_with("-D"));
            flags.iter().for_each(|flag| reader.note_flag(variable, flag));
            if !others.is_empty() {
                let text = format!(
                    "{variable}: {} has no effect here [{}]",
                    others.join(" "),
                    "there is no Java runtime"
                );
                reader.say(Severity::Warning, text);
            }
        }
        if environment.get("ZOO_DATADIR_AUTOCREATE_DISABLE").is_some() {
            reader.note_flag("ZOO_DATADIR_AUTOCREATE_DISABLE", "-Dzookeeper.datadir.autocreate=false");
        }
        command_line.iter().for_each(|flag| reader.note_flag("command line", flag));
        for variable in
            ["ZK_SERVER_HEAP", "JMXPORT", "JMXDISABLE", "JMXAUTH", "JMXSSL", "JMXHOSTNAME", "JMXLOG4J"]
        {
            if environment.get(variable).is_some() {
                let reason =
                    if variable.contains("HEAP") { "there is no heap to size" } else { "there is no JMX" };
                reader.say(Severity::Warning, format!("{variable} has no effect here [{reason}]"));
            }
        }
        reader
    }

    fn note_flag(&mut self, place: &str, flag: &str) {
        let assignment = flag.strip_prefix("-D").unwrap_or(flag);
        let (name, value) = assignment.split_once('=').unwrap_or((assignment, ""));
        self.flags.push((Origin::Flag { place: place.to_owned() }, name.to_owned(), value.to_owned()));
    }

    pub(super) fn say(&mut self, severity: Severity, text: impl Into<String>) {
        self.notices.push(Notice { severity, text: text.into() });
    }

    /// With the embedded defaults in `draft.config`, makes the raw values agree with them.
    fn start_from_defaults(&mut self) {
        self.embedded = true;
    }

    fn positional(&mut self, key: &str, value: &str, origin: Origin) -> Result<(), ConfigError> {
        let key = keys::by_spelling(key).expect("the positional keys are in the table");
        self.put(key, key.name, value, origin)
    }

    fn read_file(&mut self, path: &Path, bytes: &[u8]) -> Result<(), ConfigError> {
        let flags = std::mem::take(&mut self.flags);
        self.apply_flags(flags)?;
        for (property, origin) in self.properties(path, bytes)? {
            self.file_property(&property.key, &property.value, origin)?;
        }
        Ok(())
    }

    /// What a file sets, in its order; of a key that is set again the last one.
    pub(super) fn properties(
        &mut self,
        path: &Path,
        bytes: &[u8],
    ) -> Result<Vec<(properties::Property, Origin)>, ConfigError> {
        let properties = properties::parse(bytes)
            .map_err(|bad| ConfigError::Escape { path: path.to_path_buf(), line: bad.line })?;
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        for property in properties.iter() {
            lines.insert(property.key.clone(), property.line);
        }
        let mut last = Vec::new();
        for property in properties {
            let origin = Origin::File { path: path.to_path_buf(), line: property.line };
            let wins = lines[&property.key];
            if wins != property.line {
                let text = format!("{origin}: {} is set again in line {wins}, which wins", property.key);
                self.say(Severity::Warning, text);
                continue;
            }
            if property.garbled {
                let text = format!(
                    "{origin}: {} holds UTF-8, but Apache reads this file as Latin-1, and so do we: write \\uXXXX",
                    property.key
                );
                self.say(Severity::Warning, text);
            }
            last.push((property, origin));
        }
        Ok(last)
    }

    pub(super) fn file_property(
        &mut self,
        spelling: &str,
        value: &str,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        if spelling.starts_with("server.") && spelling[7..].starts_with(|c: char| c.is_ascii_digit()) {
            self.note(None, spelling, value, origin.clone(), true);
            match Members::from_entries([(spelling, value)]) {
                // By itself an observer's line is no ensemble.
                Ok(_) | Err(BadMembers::NoParticipant) => {}
                Err(bad) => return Self::contradiction(&origin.to_string(), bad.to_string()),
            }
            self.draft.servers.push(ServerLine { origin, key: spelling.to_owned(), value: value.to_owned() });
            return Ok(());
        }
        if spelling.starts_with("group") || spelling.starts_with("weight") {
            self.draft.hierarchical.get_or_insert_with(|| origin.clone());
            self.note(None, spelling, value, origin, true);
            return Ok(());
        }
        let plain = spelling.strip_prefix("zookeeper.").unwrap_or(spelling);
        if let Some(number) = plain.strip_prefix("authProvider.") {
            return self.auth_provider(number, value, spelling, origin);
        }
        let Some(key) = keys::by_spelling(spelling) else {
            let text = format!(
                "{origin}: {spelling} is no key of ZooKeeper's{}; Apache would make it the Java property \
                 zookeeper.{spelling}, here it has no effect",
                hints::did_you_mean(spelling)
            );
            self.say(Severity::Warning, text);
            self.note(None, spelling, value, origin, true);
            return Ok(());
        };
        let fixed = !key.name.ends_with('*');
        let is_served = matches!(key.fate, Fate::Honoured | Fate::Ensemble);
        if fixed && is_served && !key.is_spelled_upstream(spelling) {
            let cure = match key.property {
                Property::Prefixed(tail) => format!("as {tail}"),
                Property::Bare => {
                    format!("only as -D{0}, in SERVER_JVMFLAGS or on the command line", key.name)
                }
                _ => format!("as {}", key.name),
            };
            if key.binds_the_data() {
                let text = format!(
                    "{origin}: {spelling} has no effect here [it binds what may stand on the disk, so it is taken where \
                     Apache takes it: {cure}]"
                );
                self.say(Severity::Warning, text);
                self.note(Some(key), spelling, value, origin, false);
                return Ok(());
            }
            let text = format!(
                "{origin}: Apache takes it {cure}, and would ignore {spelling} here; Ostler honours it"
            );
            self.say(Severity::Warning, text);
        }
        self.put(key, spelling, value, origin)
    }

    fn put(
        &mut self,
        key: &'static Key,
        spelling: &str,
        value: &str,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        key.apply(&mut self.draft, value).map_err(|wanted| ConfigError::Value {
            origin: origin.clone(),
            key: spelling.to_owned(),
            value: if is_secret(spelling) { "(not shown)".to_owned() } else { value.to_owned() },
            wanted,
        })?;
        if key.name == "4lw.commands.whitelist" {
            for text in hints::whitelist(value) {
                self.say(Severity::Warning, format!("{origin}: {text}"));
            }
        }
        match key.fate {
            // What is of an ensemble is judged when it is clear whether this is one.
            Fate::Honoured | Fate::Ensemble | Fate::EnsembleLater(_) | Fate::EnsembleRefused(_) => {}
            Fate::Later(consequence) => {
                // Switched off is what we do anyway.
                if !value.eq_ignore_ascii_case("false") {
                    self.say(
                        Severity::Warning,
                        format!("{origin}: {spelling} has no effect here [{consequence}]"),
                    );
                }
            }
            Fate::Ignored(reason) => {
                self.say(Severity::Warning, format!("{origin}: {spelling} has no effect here [{reason}]"));
            }
        }
        self.note(Some(key), spelling, value, origin, true);
        Ok(())
    }

    fn note(
        &mut self,
        key: Option<&'static Key>,
        spelling: &str,
        value: &str,
        origin: Origin,
        is_taken: bool,
    ) {
        let value = if is_secret(spelling) { "(not shown)".to_owned() } else { value.to_owned() };
        self.settings.push(Setting { origin, spelling: spelling.to_owned(), value, key, is_taken });
    }

    fn auth_provider(
        &mut self,
        number: &str,
        class: &str,
        spelling: &str,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        let name = class.rsplit('.').next().unwrap_or(class);
        match name {
            "DigestAuthenticationProvider"
            | "IPAuthenticationProvider"
            | "EnsembleAuthenticationProvider" => {}
            "SASLAuthenticationProvider" | "X509AuthenticationProvider" | "KeyAuthenticationProvider" => {
                let text = format!("{origin}: {spelling}={class}: this scheme is not served yet");
                self.say(Severity::Warning, text);
            }
            _ => {
                let text = format!("{origin}: {spelling}={class} has no effect here [it names a Java class]");
                self.say(Severity::Warning, text);
            }
        }
        self.draft.providers.push((number.to_owned(), name.to_owned()));
        self.note(None, spelling, class, origin, true);
        Ok(())
    }

    fn apply_flags(&mut self, flags: Vec<(Origin, String, String)>) -> Result<(), ConfigError> {
        for (at, (origin, name, value)) in flags.iter().enumerate() {
            if flags[at + 1..].iter().any(|(_, later, _)| later == name) {
                continue;
            }
            if let Some(number) = name.strip_prefix("zookeeper.authProvider.") {
                self.auth_provider(number, value, name, origin.clone())?;
            } else if let Some(key) = keys::by_property(name) {
                self.put(key, name, value, origin.clone())?;
            } else if let Some(key) = keys::by_spelling(name.strip_prefix("zookeeper.").unwrap_or(name)) {
                let cure = match key.property_name() {
                    Some(property) => format!("the property is {property}"),
                    None => format!("only the file sets {}", key.name),
                };
                self.say(
                    Severity::Warning,
                    format!("{origin}: -D{name} has no effect, here or with Apache [{cure}]"),
                );
            } else if !is_java_matter(name) {
                self.say(
                    Severity::Warning,
                    format!(
                        "{origin}: -D{name} has no effect here [no such property]{}",
                        hints::did_you_mean(name)
                    ),
                );
            }
        }
        Ok(())
    }
}

/// Properties that launch scripts set without anybody having asked: not worth a line each.
fn is_java_matter(property: &str) -> bool {
    [
        "java.",
        "sun.",
        "com.sun.",
        "log4j",
        "logback",
        "zookeeper.log.",
        "zookeeper.root.logger",
        "zookeeper.console.",
    ]
    .iter()
    .any(|prefix| property.starts_with(prefix))
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "superdigest", "secret"].iter().any(|word| key.contains(word))
}

// --- what spans several keys -------------------------------------------------------------------------------------

impl Reader {
    fn finish(mut self, file: Option<PathBuf>) -> Result<Loaded, ConfigError> {
        let flags = std::mem::take(&mut self.flags);
        self.apply_flags(flags)?;
        let place = file.as_ref().map_or("command line".to_owned(), |path| path.display().to_string());
        self.draft.config.file = file;
        if !self.embedded {
            self.directories(&place)?;
            self.timeouts(&place)?;
        }
        self.draft.config.myid = read_myid(&self.draft.config.data_dir, &place)?;
        self.membership(&place)?;
        if !self.embedded {
            self.listener(&place)?;
        }
        self.sizes();
        self.snapshots();
        self.authentication(&place)?;
        self.warn_of_weakness();
        self.notices.sort_by_key(|notice| std::cmp::Reverse(notice.severity));
        Ok(Loaded { config: self.draft.config, notices: self.notices, settings: self.settings })
    }

    pub(super) fn contradiction<T>(place: &str, problem: impl Into<String>) -> Result<T, ConfigError> {
        Err(ConfigError::Contradiction { place: place.to_owned(), problem: problem.into() })
    }

    fn directories(&mut self, place: &str) -> Result<(), ConfigError> {
        let Some(data_dir) = self.draft.data_dir.take().filter(|dir| !dir.is_empty()) else {
            return Self::contradiction(
                place,
                "dataDir is not set; add a line such as dataDir=/var/lib/zookeeper",
            );
        };
        let log_dir = self.draft.data_log_dir.take().filter(|dir| !dir.is_empty());
        for (key, dir) in [("dataDir", Some(&data_dir)), ("dataLogDir", log_dir.as_ref())] {
            if dir.is_some_and(|dir| Path::new(dir).is_relative()) {
                let dir = dir.map_or("", String::as_str);
                let text =
                    format!("{place}: {key}={dir} is relative: it depends on where the server was started");
                self.say(Severity::Warning, text);
            }
        }
        self.draft.config.data_log_dir = PathBuf::from(log_dir.unwrap_or_else(|| data_dir.clone()));
        self.draft.config.data_dir = PathBuf::from(data_dir);
        Ok(())
    }

    fn timeouts(&mut self, place: &str) -> Result<(), ConfigError> {
        let (least, most) = (self.draft.timeout_least, self.draft.timeout_most);
        let tick = i64::from(self.draft.config.tick_ms);
        let least = if least == -1 { tick * i64::from(limits::SESSION_TICKS_LEAST_DEFAULT) } else { least };
        let most = if most == -1 { tick * i64::from(limits::SESSION_TICKS_MOST_DEFAULT) } else { most };
        if least > most {
            let problem = format!(
                "minSessionTimeout={least} is above maxSessionTimeout={most}; unset, they are 2 and 20 times tickTime={tick}"
            );
            return Self::contradiction(place, problem);
        }
        // A least timeout below 0 bounds nothing, as with Apache; an absurd tickTime makes more than an i32 holds.
        let fit = |ms: i64| ms.clamp(0, i64::from(i32::MAX)) as u32;
        self.draft.config.session_timeout_ms_least = fit(least);
        self.draft.config.session_timeout_ms_most = fit(most);
        Ok(())
    }

    fn listener(&mut self, place: &str) -> Result<(), ConfigError> {
        let draft = &mut self.draft;
        if draft.secure_port == 0 && draft.secure_host.is_some() {
            return Self::contradiction(place, "secureClientPortAddress is set and secureClientPort is not");
        }
        let port = draft.client_port;
        if port == 0 && !draft.client_port_given {
            let problem = match (&draft.client_host, draft.secure_port) {
                (Some(_), _) => {
                    "clientPortAddress is set and clientPort is not; add clientPort=2181".to_owned()
                }
                (None, 0) => "clientPort is not set, so nothing would listen; add clientPort=2181".to_owned(),
                (None, _) => format!(
                    "only secureClientPort is set, and {}; add clientPort=2181",
                    "TLS is not served yet"
                ),
            };
            return Self::contradiction(place, problem);
        }
        let address = match draft.client_host.take() {
            None => None,
            Some(host) => Some(resolve(&host).ok_or_else(|| ConfigError::Value {
                origin: Origin::Flag { place: place.to_owned() },
                key: "clientPortAddress".to_owned(),
                value: host.clone(),
                wanted: "an address of this machine, or a name that resolves to one".to_owned(),
            })?),
        };
        draft.config.client = Some(Listener { address, port, backlog: draft.backlog });
        let secure = draft.secure_port;
        if secure != 0 {
            let text = format!("{place}: secureClientPort={secure} is not opened: TLS is not served yet");
            self.say(Severity::Danger, text);
        }
        Ok(())
    }

    fn sizes(&mut self) {
        let draft = &mut self.draft;
        let config = &mut draft.config;
        let extra = draft.frame_extra.unwrap_or(config.frame_bytes_max);
        config.frame_extra_bytes = extra.max(limits::FRAME_EXTRA_BYTES_LEAST);
        config.flush_idle_ms = draft.flush_idle.unwrap_or(config.flush_delay_ms / 3);
        // A segment holds at least one batch with its framing.
        let least = limits::SEGMENT_BYTES_LEAST.max(2 * u64::from(config.entry_bytes_max()));
        if config.segment_bytes < least {
            let text = format!(
                "preAllocSize is raised to {} KiB: a segment must hold the largest txn",
                least / 1024
            );
            config.segment_bytes = least;
            self.say(Severity::Warning, text);
        }
    }

    fn snapshots(&mut self) {
        let draft = &mut self.draft;
        let (count, keep) = (draft.snap_count, draft.purge_keep);
        // Apache's own least is 2.
        draft.config.snap_txns = count.max(2) as u32;
        draft.config.purge_keep = keep.max(i64::from(limits::SNAPSHOTS_KEPT_LEAST)) as u32;
        if count < 2 {
            self.say(
                Severity::Warning,
                format!("snapCount={count} is raised to 2, the least that makes sense"),
            );
        }
        if keep < i64::from(limits::SNAPSHOTS_KEPT_LEAST) {
            self.say(
                Severity::Warning,
                format!("autopurge.snapRetainCount={keep} is raised to 3: fewer could not be recovered from"),
            );
        }
        if self.draft.config.purge_every_ms.is_none() {
            let text = "autopurge.purgeInterval is not set: old snapshots and logs stay until somebody deletes them; \
                        1 purges every hour";
            self.say(Severity::Warning, text);
        }
    }

    fn authentication(&mut self, place: &str) -> Result<(), ConfigError> {
        let draft = &mut self.draft;
        if draft.require_sasl {
            return Self::contradiction(
                place,
                "sessionRequireClientSASLAuth=true would keep every client out, because SASL is not served yet; use \
                 enforce.auth.enabled=true with enforce.auth.schemes=digest",
            );
        }
        let auth = &mut draft.config.auth;
        let ensemble = draft.providers.iter().any(|(_, class)| class == "EnsembleAuthenticationProvider");
        if !ensemble {
            auth.ensemble_names.clear();
        }
        if !draft.enforce_auth {
            auth.enforced_schemes.clear();
            return Ok(());
        }
        if auth.enforced_schemes.is_empty() {
            let problem =
                "enforce.auth.enabled=true needs enforce.auth.schemes, such as enforce.auth.schemes=digest";
            return Self::contradiction(place, problem);
        }
        let served = |scheme: &String| match scheme.as_str() {
            "ip" => true,
            "digest" => auth.digest,
            "ensemble" => ensemble,
            _ => false,
        };
        match auth.enforced_schemes.iter().find(|scheme| !served(scheme)) {
            Some(scheme) => Self::contradiction(
                place,
                format!("enforce.auth.schemes names {scheme}, which is not served here"),
            ),
            None => Ok(()),
        }
    }

    /// What makes durability or access control weaker is said, however it was set.
    fn warn_of_weakness(&mut self) {
        let config = &self.draft.config;
        let mut dangers = Vec::new();
        if !config.sync_before_ack {
            dangers.push("forceSync=no: writes are acknowledged before they are on disk; a power cut loses acknowledged writes");
        }
        if config.auth.skip_acl {
            dangers.push("skipACL=yes: every client may read and change every znode");
        }
        if config.ignore_owner {
            dangers.push("ostler.ignoreOwner=true: nobody looks whether another server has the data directory; two servers on one destroy it");
        }
        if config.trust_empty_snapshot {
            dangers.push("snapshot.trust.empty=true: logs without a snapshot are accepted; a lost snapshot goes unnoticed");
        }
        if self.draft.read_only_mode
            && matches!(config.words, Words::Only(_))
            && !config.words.permits("isro")
        {
            let Words::Only(words) = &mut self.draft.config.words else { return };
            words.push("isro".to_owned());
        }
        dangers.into_iter().for_each(|text| self.say(Severity::Danger, text));
    }
}

/// First line of `dataDir/myid`, decimal. Missing means none.
fn read_myid(data_dir: &Path, place: &str) -> Result<Option<ServerId>, ConfigError> {
    let path = data_dir.join("myid");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ConfigError::Unreadable { path, source }),
    };
    let first = text.lines().next().unwrap_or_default();
    match first.parse::<u64>() {
        Ok(id) => Ok(Some(ServerId(id))),
        Err(_) => Err(ConfigError::Contradiction {
            place: place.to_owned(),
            problem: format!("{} should hold a server id, such as 1, and holds {first:?}", path.display()),
        }),
    }
}

pub(super) fn resolve(host: &str) -> Option<IpAddr> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.parse().ok().or_else(|| (host, 0).to_socket_addrs().ok()?.next().map(|address| address.ip()))
}
