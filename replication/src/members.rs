//! Who belongs to the ensemble: the configuration's text, read and printed as Apache's servers do.
//! Not here: whether a set of servers is a quorum (quorums), files, names resolved to addresses.
//! Invariant: there is at least one voter, and with groups every voter belongs to exactly one.

mod properties;

use crate::ServerId;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};

/// Far above any ensemble's, and small enough for one notification.
const TEXT_BYTES_MAX: usize = 256 << 10;

/// Where other servers reach one server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Address {
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    pub quorum_port: u16,
    pub election_port: u16,
}

impl Address {
    pub fn election(&self) -> String {
        format!("{}:{}", Bracketed(&self.host), self.election_port)
    }

    pub fn quorum(&self) -> String {
        format!("{}:{}", Bracketed(&self.host), self.quorum_port)
    }
}

/// One server of the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// At least one, in the order in which the text shows them.
    pub addresses: Vec<Address>,
    pub is_observer: bool,
    /// Host and port for clients, when the configuration says so.
    pub client: Option<(String, u16)>,
}

/// Groups of voters with weights. Without them every voter counts once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Groups {
    /// Group of each server that is in one.
    pub(crate) group: BTreeMap<ServerId, i64>,
    /// Of each voter, and of whom else the text gives one.
    pub(crate) weight: BTreeMap<ServerId, u64>,
}

/// One configuration of the ensemble.
#[derive(Clone, Debug)]
pub struct Members {
    servers: BTreeMap<ServerId, Member>,
    groups: Option<Groups>,
    version: i64,
    voters: Vec<ServerId>,
    text: String,
}

impl Hash for Members {
    /// The text says all that there is.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// Why a text is no configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BadMembers {
    TooLong { bytes: usize },
    Key(String),
    Number { key: String, value: String },
    Form { key: String, value: String },
    Port { key: String, port: String },
    SamePorts { key: String },
    Role { key: String, role: String },
    NoParticipant,
    InTwoGroups(i64),
    InNoGroup(i64),
    Weightless(i64),
}

impl fmt::Display for BadMembers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadMembers::TooLong { bytes } => {
                write!(f, "a configuration of {bytes} bytes, where {TEXT_BYTES_MAX} are the most")
            }
            BadMembers::Key(key) => {
                write!(
                    f,
                    "{key}: not a key of an ensemble, which are server.N, group.N, weight.N and version"
                )
            }
            BadMembers::Number { key, value } => write!(f, "{key}={value}: not a number that can stand here"),
            BadMembers::Form { key, value } => write!(
                f,
                "{key}={value}: not of the form host:port:port or host:port:port:role, several of them joined by |, \
                 with ;port or ;host:port for clients"
            ),
            BadMembers::Port { key, port } => write!(f, "{key}: {port} is not a port, which are 0 to 65535"),
            BadMembers::SamePorts { key } => {
                write!(f, "{key}: the port for the quorum and the port for elections must differ")
            }
            BadMembers::Role { key, role } => {
                write!(
                    f,
                    "{key}: the role {role} is neither participant nor observer, or not that of all addresses"
                )
            }
            BadMembers::NoParticipant => write!(f, "no server.N is a participant, so nobody could ever lead"),
            BadMembers::InTwoGroups(id) => write!(f, "server {id} is in more than one group"),
            BadMembers::InNoGroup(id) => write!(f, "server {id} is a participant and in no group"),
            BadMembers::Weightless(id) => {
                write!(f, "server {id} is in a group, but is no participant and has no weight")
            }
        }
    }
}

impl std::error::Error for BadMembers {}

impl Members {
    /// Reads a configuration's text, as notifications, NEWLEADER and the dynamic file carry it.
    pub fn parse(text: &str) -> Result<Members, BadMembers> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(BadMembers::TooLong { bytes: text.len() });
        }
        let entries = properties::parse(text);
        Members::from_entries(entries.iter().map(|(key, value)| (key.as_str(), value.as_str())))
    }

    /// From the lines `server.N`, `group.N`, `weight.N` and `version` of a configuration. A key that comes again counts
    /// as it came last.
    pub fn from_entries<'a>(
        entries: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Members, BadMembers> {
        let entries: BTreeMap<&str, &str> = entries.into_iter().collect();
        let mut servers = BTreeMap::new();
        let mut groups = Groups { group: BTreeMap::new(), weight: BTreeMap::new() };
        let mut is_grouped = false;
        let mut version = 0;
        for (key, value) in entries {
            if key.starts_with("server.") {
                servers.insert(id_in(key)?, member(key, value)?);
            } else if key.starts_with("group") {
                is_grouped = true;
                let group = number_in(key)?;
                for part in value.split(':') {
                    let id = id(key, part)?;
                    if groups.group.insert(id, group).is_some() {
                        return Err(BadMembers::InTwoGroups(id.0 as i64));
                    }
                }
            } else if key.starts_with("weight") {
                is_grouped = true;
                groups.weight.insert(id_in(key)?, value.parse().map_err(|_| bad_number(key, value))?);
            } else if key == "version" {
                version = i64::from_str_radix(value, 16).map_err(|_| bad_number(key, value))?;
            } else {
                return Err(BadMembers::Key(key.to_string()));
            }
        }
        Members::assemble(servers, is_grouped.then_some(groups), version)
    }

    /// A configuration in which every participant counts once.
    pub fn new(servers: BTreeMap<ServerId, Member>) -> Result<Members, BadMembers> {
        Members::assemble(servers, None, 0)
    }

    fn assemble(
        servers: BTreeMap<ServerId, Member>,
        mut groups: Option<Groups>,
        version: i64,
    ) -> Result<Members, BadMembers> {
        let voters: Vec<ServerId> =
            servers.iter().filter(|(_, member)| !member.is_observer).map(|(id, _)| *id).collect();
        if voters.is_empty() {
            return Err(BadMembers::NoParticipant);
        }
        if let Some(groups) = &mut groups {
            for voter in &voters {
                if !groups.group.contains_key(voter) {
                    return Err(BadMembers::InNoGroup(voter.0 as i64));
                }
                groups.weight.entry(*voter).or_insert(1);
            }
            if let Some(id) = groups.group.keys().find(|id| !groups.weight.contains_key(id)) {
                return Err(BadMembers::Weightless(id.0 as i64));
            }
        }
        let text = print(&servers, groups.as_ref(), version);
        if text.len() > TEXT_BYTES_MAX {
            return Err(BadMembers::TooLong { bytes: text.len() });
        }
        Ok(Members { servers, groups, version, voters, text })
    }

    /// The same servers under another version.
    pub fn with_version(&self, version: i64) -> Members {
        let text = print(&self.servers, self.groups.as_ref(), version);
        Members { version, text, ..self.clone() }
    }

    /// As servers send it to each other and `/zookeeper/config` shows it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The zxid of the txn that made this configuration; 0 for one that was read from a file.
    pub fn version(&self) -> i64 {
        self.version
    }

    pub fn get(&self, id: ServerId) -> Option<&Member> {
        self.servers.get(&id)
    }

    pub fn servers(&self) -> impl Iterator<Item = (ServerId, &Member)> {
        self.servers.iter().map(|(id, member)| (*id, member))
    }

    /// Those who count, ascending.
    pub fn voters(&self) -> &[ServerId] {
        &self.voters
    }

    pub fn observers(&self) -> impl Iterator<Item = ServerId> {
        self.servers.iter().filter(|(_, member)| member.is_observer).map(|(id, _)| *id)
    }

    pub fn is_voter(&self, id: ServerId) -> bool {
        self.voters.binary_search(&id).is_ok()
    }

    pub(crate) fn groups(&self) -> Option<&Groups> {
        self.groups.as_ref()
    }

    /// 0: never to be elected.
    pub fn weight(&self, id: ServerId) -> u64 {
        match &self.groups {
            None => 1,
            Some(groups) => groups.weight.get(&id).copied().unwrap_or(0),
        }
    }

    /// Whether Apache's servers take the two for the same: equal versions are enough.
    pub fn is_same(&self, other: &Members) -> bool {
        if self.groups.is_some() != other.groups.is_some() {
            return false;
        }
        self.version == other.version || (self.servers == other.servers && self.groups == other.groups)
    }
}

fn bad_number(key: &str, value: &str) -> BadMembers {
    BadMembers::Number { key: key.to_string(), value: value.to_string() }
}

/// The number behind the first dot of a key.
fn number_in(key: &str) -> Result<i64, BadMembers> {
    let number = key.split_once('.').and_then(|(_, number)| number.parse().ok());
    number.ok_or_else(|| BadMembers::Key(key.to_string()))
}

fn id_in(key: &str) -> Result<ServerId, BadMembers> {
    let number = number_in(key)?;
    u64::try_from(number).map(ServerId).map_err(|_| BadMembers::Key(key.to_string()))
}

fn id(key: &str, value: &str) -> Result<ServerId, BadMembers> {
    let number = value.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok());
    number.map(ServerId).ok_or_else(|| bad_number(key, value))
}

fn port(key: &str, value: &str) -> Result<u16, BadMembers> {
    value.parse().map_err(|_| BadMembers::Port { key: key.to_string(), port: value.to_string() })
}

/// `host:port:port[:role]`, several of them joined by `|`, then perhaps `;[host:]port`.
fn member(key: &str, value: &str) -> Result<Member, BadMembers> {
    let form = || BadMembers::Form { key: key.to_string(), value: value.to_string() };
    let mut parts = value.split(';');
    let servers = parts.next().unwrap_or_default();
    let client = match (parts.next(), parts.next()) {
        (None | Some(""), None) => None,
        (Some(client), None) => Some(client_address(key, client).ok_or_else(form)??),
        _ => return Err(form()),
    };
    let mut addresses: Vec<Address> = Vec::new();
    let mut role: Option<bool> = None;
    for server in servers.split('|') {
        let (host, rest) = split_host(server).ok_or_else(form)?;
        let rest: Vec<&str> = rest.split(':').collect();
        let (quorum, election) = match rest[..] {
            [quorum, election] | [quorum, election, _] => (port(key, quorum)?, port(key, election)?),
            _ => return Err(form()),
        };
        if quorum == election {
            return Err(BadMembers::SamePorts { key: key.to_string() });
        }
        if let Some(word) = rest.get(2) {
            let bad = || BadMembers::Role { key: key.to_string(), role: word.to_string() };
            let is_observer = match word.trim().to_ascii_lowercase().as_str() {
                "observer" => true,
                "participant" => false,
                _ => return Err(bad()),
            };
            if role.is_some_and(|role| role != is_observer) {
                return Err(bad());
            }
            role = Some(is_observer);
        }
        let address = Address { host: host.to_string(), quorum_port: quorum, election_port: election };
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.sort_by(|a, b| a.host.cmp(&b.host));
    Ok(Member { addresses, is_observer: role.unwrap_or(false), client })
}

fn client_address(key: &str, text: &str) -> Option<Result<(String, u16), BadMembers>> {
    let (host, number) = match split_host(text) {
        Some((_, number)) if number.contains(':') => return None,
        Some(both) => both,
        None if text.starts_with('[') => return None,
        None => ("0.0.0.0", text),
    };
    Some(port(key, number).map(|port| (host.to_string(), port)))
}

/// The host and what follows the colon behind it.
fn split_host(text: &str) -> Option<(&str, &str)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(text) => {
            let (host, rest) = text.split_once(']')?;
            (host, rest.strip_prefix(':')?)
        }
        None => text.split_once(':')?,
    };
    let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control());
    is_host.then_some((host, rest))
}

struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.contains(':') {
            true => write!(f, "[{}]", self.0),
            false => f.write_str(self.0),
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.addresses.iter().enumerate() {
            let bar = if index == 0 { "" } else { "|" };
            let host = Bracketed(&address.host);
            write!(f, "{bar}{host}:{}:{}", address.quorum_port, address.election_port)?;
        }
        f.write_str(if self.is_observer { ":observer" } else { ":participant" })?;
        if let Some((host, port)) = &self.client {
            write!(f, ";{}:{port}", Bracketed(host))?;
        }
        Ok(())
    }
}

fn print(servers: &BTreeMap<ServerId, Member>, groups: Option<&Groups>, version: i64) -> String {
    let mut lines = Vec::new();
    for id in in_hash_order(servers.keys().map(|id| id.0 as i64)) {
        lines.push(format!("server.{id}={}", servers[&ServerId(id as u64)]));
    }
    if let Some(groups) = groups {
        let mut members: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for id in in_hash_order(groups.group.keys().map(|id| id.0 as i64)) {
            members.entry(groups.group[&ServerId(id as u64)]).or_default().push(id.to_string());
        }
        for group in in_hash_order(members.keys().copied()) {
            lines.push(format!("group.{group}={}", members[&group].join(":")));
        }
        for id in in_hash_order(groups.weight.keys().map(|id| id.0 as i64)) {
            lines.push(format!("weight.{id}={}", groups.weight[&ServerId(id as u64)]));
        }
    }
    lines.push(format!("version={version:x}"));
    lines.join("\n")
}

/// The order in which a Java hash map that has grown to hold these ids goes through them; ascending as long as the ids
/// are smaller than its table. Ids that share a place come ascending here, as they do when they were put in so.
fn in_hash_order(ids: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut ids: Vec<i64> = ids.collect();
    let mut table = 16;
    while ids.len() > table / 4 * 3 {
        table *= 2;
    }
    let place = |id: i64| {
        let hash = (id ^ (id as u64 >> 32) as i64) as u32;
        (hash ^ hash >> 16) as usize & (table - 1)
    };
    ids.sort_by_key(|id| (place(*id), *id));
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let printed = match Members::parse(text) {
            Ok(members) => members.text().to_string(),
            Err(bad) => bad.to_string(),
        };
        assert_eq!(printed, expected);
    }

    #[test]
    fn prints_as_apache_does() {
        check(
            "server.2 = b:2888:3888:PARTICIPANT;2181\nserver.1=a:2888:3888\n# a comment\nserver.3=[::1]:1:2:observer;[::2]:9",
            "server.1=a:2888:3888:participant\nserver.2=b:2888:3888:participant;0.0.0.0:2181\n\
             server.3=[::1]:1:2:observer;[::2]:9\nversion=0",
        );
        check("server.1=a\\:1\\:2\nversion=100000000", "server.1=a:1:2:participant\nversion=100000000");
        check(
            "server.1=z:1:2|a:3:4\nversion=-1",
            "server.1=a:3:4|z:1:2:participant\nversion=ffffffffffffffff",
        );
    }

    #[test]
    fn what_is_printed_reads_as_the_same() {
        let text = "server.1=a:1:2:participant\nserver.2=a:3:4:participant\nserver.3=a:5:6:participant\n\
                    group.1=1:2:3\nweight.1=1\nweight.2=0\nweight.3=2\nversion=5";
        check(text, text);
        check(
            "server.1=a:1:2\nserver.2=a:3:4:observer\ngroup.7=1",
            "server.1=a:1:2:participant\nserver.2=a:3:4:observer\ngroup.7=1\nweight.1=1\nversion=0",
        );
    }

    #[test]
    fn servers_stand_in_the_order_of_a_hash_map() {
        let text = "server.15=a:1:2\nserver.16=a:3:4\nserver.1=a:5:6";
        let members = Members::parse(text).unwrap();
        let order: Vec<&str> = members.text().lines().filter_map(|line| line.split('=').next()).collect();
        assert_eq!(order, ["server.16", "server.1", "server.15", "version"]);
    }

    #[test]
    fn bad_texts_are_errors() {
        check("", "no server.N is a participant, so nobody could ever lead");
        check("version=0", "no server.N is a participant, so nobody could ever lead");
        check("server.1=a:1:2:observer", "no server.N is a participant, so nobody could ever lead");
        check("server.1=a:1:70000", "server.1: 70000 is not a port, which are 0 to 65535");
        check("server.1=a:1:1", "server.1: the port for the quorum and the port for elections must differ");
        check(
            "server.1=a:1:2:witness",
            "server.1: the role witness is neither participant nor observer, or not that of all addresses",
        );
        check(
            "server.1=a:1:2\nserver.1=a:1:2:observer|b:1:2:participant",
            "server.1: the role participant is neither participant nor observer, or not that of all addresses",
        );
        check(
            "server.x=a:1:2",
            "server.x: not a key of an ensemble, which are server.N, group.N, weight.N and version",
        );
        check(
            "server.-1=a:1:2",
            "server.-1: not a key of an ensemble, which are server.N, group.N, weight.N and version",
        );
        check(
            "clientPort=2181\nserver.1=a:1:2",
            "clientPort: not a key of an ensemble, which are server.N, group.N, weight.N and version",
        );
        check("server.1=a:1:2\nversion=zz", "version=zz: not a number that can stand here");
        check("server.1=a:1:2\nserver.2=a:3:4\ngroup.1=1", "server 2 is a participant and in no group");
        check("server.1=a:1:2\ngroup.1=1\ngroup.2=1", "server 1 is in more than one group");
        check(
            "server.1=a:1:2\ngroup.1=1:9",
            "server 9 is in a group, but is no participant and has no weight",
        );
        for value in [
            "",
            "a",
            "a:1",
            "a:1:2:participant:3",
            "a:1:2;1;2",
            "[::1:1:2",
            "[::1]",
            "[::1]:",
            ":1:2",
            "a b:1:2",
            "a:1:2;[::1]",
        ] {
            let bad = Members::parse(&format!("server.1={value}")).unwrap_err();
            assert!(matches!(bad, BadMembers::Form { .. }), "{value}: {bad:?}");
        }
        assert!(matches!(Members::parse(&" ".repeat(TEXT_BYTES_MAX + 1)), Err(BadMembers::TooLong { .. })));
    }

    #[test]
    fn configurations_of_one_version_are_the_same() {
        let members = |text| Members::parse(text).unwrap();
        let one = members("server.1=a:1:2\nversion=7");
        assert!(one.is_same(&members("server.1=b:1:2\nserver.2=b:3:4\nversion=7")));
        assert!(!one.is_same(&members("server.1=b:1:2\nversion=8")));
        assert!(one.is_same(&one.with_version(8)));
        assert!(!one.is_same(&members("server.1=a:1:2\ngroup.1=1\nversion=7")));
        assert_eq!(one.with_version(8).text(), "server.1=a:1:2:participant\nversion=8");
    }
}
