//! From server lines, `myid` and the dynamic file to a standalone server or a member of an ensemble.
//! Not here: the form of a server line (`Members`), what an ensemble's member is told (`ensemble`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ostler_replication::{BadMembers, Member, Members, ServerId};

use super::ensemble::EnsembleConfig;
use super::keys::{Fate, Key};
use super::load::{ConfigError, Origin, Reader, Severity, resolve};

/// The first byte of a session id is its server's id.
const SERVER_IDS: u64 = 256;
/// With TTL znodes that byte of their ephemeral owner must not be 0xff.
const EXTENDED_SERVER_ID_MAX: u64 = 254;

impl Reader {
    /// Reads the dynamic file and settles what this server is. One voter is a standalone server unless the operator says
    /// otherwise, more are an ensemble.
    pub(super) fn membership(&mut self, place: &str) -> Result<(), ConfigError> {
        let mut version = 0;
        if let Some(dynamic) = self.draft.dynamic_file.take() {
            if !self.draft.servers.is_empty() || self.draft.hierarchical.is_some() {
                return Self::contradiction(
                    place,
                    "server.*, group.* and weight.* lines belong into the dynamicConfigFile, not beside it",
                );
            }
            self.read_dynamic(Path::new(&dynamic))?;
            version = version_of(&dynamic);
        }
        let lines = self.draft.servers.iter().map(|line| (&*line.key, &*line.value));
        let members = match Members::from_entries(lines) {
            Ok(members) => Some(members.with_version(version)),
            Err(BadMembers::NoParticipant) => None,
            Err(bad) => return Self::contradiction(place, bad.to_string()),
        };
        let voters = members.as_ref().map_or(0, |members| members.voters().len());
        let observers =
            members.as_ref().map_or(self.draft.servers.len(), |members| members.observers().count());
        match voters {
            0 if !self.draft.standalone => {
                let problem = "standaloneEnabled=false needs an ensemble, and no server votes; add lines such as \
                               server.1=host:2888:3888";
                Self::contradiction(place, problem)
            }
            0 if observers > 0 => {
                Self::contradiction(place, "observers need servers that vote, and there is none")
            }
            1 if self.draft.standalone && observers > 0 => {
                let problem = "observers need an ensemble, and a single voter is a standalone server; \
                               standaloneEnabled=false makes it an ensemble of one";
                Self::contradiction(place, problem)
            }
            _ => match members {
                Some(members) if voters > 1 || !self.draft.standalone => self.ensemble(place, members),
                members => self.standalone(members.as_ref()),
            },
        }
    }

    fn standalone(&mut self, members: Option<&Members>) -> Result<(), ConfigError> {
        if let Some((id, member)) = members.and_then(|members| members.servers().next()) {
            let origin = self.origin_of(id);
            let text = format!(
                "{origin}: only one server votes, so this is a standalone server; its server line is ignored"
            );
            self.say(Severity::Warning, text);
            if self.draft.config.myid == Some(id) {
                self.adopt_client_address(id, member)?;
            }
        }
        if let Some(origin) = self.draft.hierarchical.take() {
            let text = format!(
                "{origin}: groups and weights have no effect here [a standalone server has no quorum]"
            );
            self.say(Severity::Warning, text);
        }
        Ok(())
    }

    fn ensemble(&mut self, place: &str, members: Members) -> Result<(), ConfigError> {
        self.refuse_unsafe(place)?;
        self.refuse_pending_change(place)?;
        let file = self.draft.config.data_dir.join("myid");
        let Some(me) = self.draft.config.myid else {
            let problem = format!(
                "the myid file is missing: write this server's number, the N of its line server.N, into {}",
                file.display()
            );
            return Self::contradiction(place, problem);
        };
        let Some(own) = members.get(me) else {
            let problem =
                format!("{} says {me}, and there is no line server.{me}", file.display(), me = me.0);
            return Self::contradiction(place, problem);
        };
        self.addresses(&members)?;
        self.adopt_client_address(me, own)?;
        self.limits(place)?;
        self.own_ports(me, own)?;
        self.ids(place, me, &members)?;
        self.warn_of_numbers(place, members.voters().len());
        if own.is_observer != self.draft.is_observer {
            let role = |observes: bool| if observes { "observer" } else { "participant" };
            let text = format!(
                "{}: server.{} is {} there, and peerType says {}; the server line holds",
                self.origin_of(me),
                me.0,
                role(own.is_observer),
                role(self.draft.is_observer)
            );
            self.say(Severity::Warning, text);
        }
        self.warn_of_what_comes_later();
        let voters = members.voters().len() as u32;
        let config = &mut self.draft.config;
        if !own.is_observer && voters > 2 {
            // Each voter may have as many requests under way at its leader, so Apache shares the limit out.
            config.outstanding_requests_max = (config.outstanding_requests_max / (voters - 1)).max(1);
        }
        config.server = me;
        let settings = self.draft.ensemble.clone();
        config.ensemble = Some(EnsembleConfig { me, members: Arc::new(members), settings });
        Ok(())
    }

    /// Where the line of this server stands.
    fn origin_of(&self, id: ServerId) -> String {
        let line = self.draft.servers.iter().find(|line| line.id() == Some(id));
        line.map_or_else(|| format!("server.{}", id.0), |line| line.origin.to_string())
    }

    /// What would make this server part of an ensemble on other terms than the rest of it.
    fn refuse_unsafe(&self, place: &str) -> Result<(), ConfigError> {
        for (origin, spelling, value, key) in self.unusual() {
            if let Fate::EnsembleRefused(reason) = key.fate {
                return Self::contradiction(
                    &origin.to_string(),
                    format!("{spelling}={value} is refused: {reason}"),
                );
            }
        }
        if let Some(origin) = &self.draft.hierarchical {
            let problem = "groups and weights of servers are not served yet, and a server that counts votes by other \
                           rules than the rest could see a second leader elected; remove the group and weight lines of \
                           every server, or leave this one out";
            return Self::contradiction(&origin.to_string(), problem);
        }
        if self.draft.config.reconfig_enabled {
            let problem = "reconfigEnabled=true lets the members of an ensemble change while it runs, which this server \
                           would not take part in yet: it could count on servers that have left. Set it to false on \
                           every server";
            return Self::contradiction(place, problem);
        }
        Ok(())
    }

    fn warn_of_what_comes_later(&mut self) {
        let texts: Vec<_> = self
            .unusual()
            .filter_map(|(origin, spelling, value, key)| match key.fate {
                Fate::EnsembleLater(consequence) => {
                    Some(format!("{origin}: {spelling}={value} has no effect here [{consequence}]"))
                }
                _ => None,
            })
            .collect();
        texts.into_iter().for_each(|text| self.say(Severity::Warning, text));
    }

    /// Keys that were set, in the end, to something other than their default.
    fn unusual(&self) -> impl Iterator<Item = (&Origin, &str, &str, &'static Key)> {
        let settings = self.settings.iter().enumerate();
        let last = settings.filter_map(|(at, setting)| {
            let key = setting.key?;
            let again = self.settings[at + 1..].iter().filter_map(|later| later.key);
            (!again.map(|later| later.name).any(|name| name == key.name)).then_some((setting, key))
        });
        last.filter(|(setting, key)| {
            let default = key.default.split(' ').next().unwrap_or_default();
            !setting.value.is_empty() && !setting.value.eq_ignore_ascii_case(default)
        })
        .map(|(setting, key)| (&setting.origin, &*setting.spelling, &*setting.value, key))
    }

    /// Several addresses need the switch that changes what servers send each other; no two servers share a port.
    fn addresses(&self, members: &Members) -> Result<(), ConfigError> {
        let mut taken: BTreeMap<(String, u16), ServerId> = BTreeMap::new();
        for (id, member) in members.servers() {
            if member.addresses.len() > 1 && !self.draft.ensemble.multi_address {
                let problem = format!(
                    "server.{} has several addresses, which needs multiAddress.enabled=true on every server",
                    id.0
                );
                return Self::contradiction(&self.origin_of(id), problem);
            }
            for address in &member.addresses {
                for port in [address.quorum_port, address.election_port] {
                    let other = taken.insert((address.host.to_ascii_lowercase(), port), id);
                    if let Some(other) = other.filter(|other| *other != id) {
                        let problem = format!(
                            "server.{} and server.{} both have port {port} of {}; each server needs ports of its own",
                            other.0, id.0, address.host
                        );
                        return Self::contradiction(&self.origin_of(id), problem);
                    }
                }
            }
        }
        Ok(())
    }

    /// Ticks to wait must be given. Apache has no default for them either.
    fn limits(&mut self, place: &str) -> Result<(), ConfigError> {
        let settings = &mut self.draft.ensemble;
        for (name, ticks, usual) in
            [("initLimit", settings.init_ticks, 10), ("syncLimit", settings.sync_ticks, 5)]
        {
            if ticks == 0 {
                let problem =
                    format!("{name} is not set, and an ensemble needs it; add a line such as {name}={usual}");
                return Self::contradiction(place, problem);
            }
        }
        if settings.connect_ticks == 0 {
            settings.connect_ticks = settings.init_ticks;
        }
        settings.notification_ms_most = settings.notification_ms_most.max(settings.notification_ms_least);
        if !settings.empty_votes {
            let config = &self.draft.config;
            let marked = [&config.data_dir, &config.data_log_dir].map(|dir| dir.join("initialize").exists());
            self.draft.ensemble.empty_votes = marked.contains(&true);
        }
        Ok(())
    }

    /// Clients and servers cannot share a port.
    fn own_ports(&self, me: ServerId, own: &Member) -> Result<(), ConfigError> {
        let client = self.draft.client_port;
        for address in &own.addresses {
            for (port, what) in [(address.quorum_port, "quorum"), (address.election_port, "election")] {
                if port == client {
                    let problem = format!("the client port {client} is the {what} port of this server, too");
                    return Self::contradiction(&self.origin_of(me), problem);
                }
            }
        }
        Ok(())
    }

    fn ids(&mut self, place: &str, me: ServerId, members: &Members) -> Result<(), ConfigError> {
        if self.draft.config.extended_types && me.0 > EXTENDED_SERVER_ID_MAX {
            let problem = format!(
                "extendedTypesEnabled=true needs a server id of at most {EXTENDED_SERVER_ID_MAX}, and this is server {}",
                me.0
            );
            return Self::contradiction(place, problem);
        }
        let mut by_byte: BTreeMap<u64, ServerId> = BTreeMap::new();
        for (id, _) in members.servers() {
            if let Some(other) = by_byte.insert(id.0 % SERVER_IDS, id) {
                let text = format!(
                    "{}: servers {} and {} may give the same id to two sessions: only the last 8 bits of a server's \
                     number are in it",
                    self.origin_of(id),
                    other.0,
                    id.0
                );
                self.say(Severity::Danger, text);
            }
        }
        Ok(())
    }

    fn warn_of_numbers(&mut self, place: &str, voters: usize) {
        let text = match voters {
            ..=2 => format!(
                "{place}: with {voters} voting servers no failure is tolerated; that takes at least 3"
            ),
            _ if voters.is_multiple_of(2) => format!(
                "{place}: {voters} voting servers tolerate no more failures than {}; consider an odd number",
                voters - 1
            ),
            _ => return,
        };
        self.say(Severity::Warning, text);
    }

    /// Apache takes the client address of its own server line, found by `myid`, even when it then runs alone.
    fn adopt_client_address(&mut self, me: ServerId, own: &Member) -> Result<(), ConfigError> {
        let Some((host, port)) = &own.client else { return Ok(()) };
        let origin = self.origin_of(me);
        let host = Some(&**host).filter(|host| !is_wildcard(host));
        let draft = &mut self.draft;
        let configured = draft.client_host.as_deref().filter(|host| !is_wildcard(host));
        let same_host = match (configured, host) {
            (Some(configured), Some(host)) => {
                configured == host || resolve(configured).is_some_and(|a| resolve(host) == Some(a))
            }
            (Some(_), None) => false,
            (None, _) => true,
        };
        if draft.client_port != 0 && (draft.client_port != *port || !same_host) {
            let at = |host: Option<&str>, port: u16| {
                host.map_or(port.to_string(), |host| format!("{host}:{port}"))
            };
            let problem = format!(
                "the client address {} in server.{} differs from clientPort={}",
                at(host, *port),
                me.0,
                at(configured, draft.client_port)
            );
            return Self::contradiction(&origin, problem);
        }
        draft.client_port = *port;
        if host.is_some() {
            draft.client_host = host.map(str::to_owned);
        }
        Ok(())
    }

    fn read_dynamic(&mut self, path: &Path) -> Result<(), ConfigError> {
        let bytes =
            std::fs::read(path).map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
        for (property, origin) in self.properties(path, &bytes)? {
            let member = ["server.", "group", "weight"].iter().any(|prefix| property.key.starts_with(prefix));
            if !member {
                let problem = format!(
                    "{} does not belong into a dynamic file: only server.N, group.N and weight.N do",
                    property.key
                );
                return Self::contradiction(&origin.to_string(), problem);
            }
            self.file_property(&property.key, &property.value, origin)?;
        }
        Ok(())
    }

    /// Apache keeps proposed members beside its configuration until they are committed, and until then needs both the
    /// old quorum and the new one.
    fn refuse_pending_change(&self, place: &str) -> Result<(), ConfigError> {
        let Some(file) = &self.draft.config.file else { return Ok(()) };
        let mut next = file.clone().into_os_string();
        next.push(".dynamic.next");
        let next = Path::new(&next);
        if !next.exists() {
            return Ok(());
        }
        let problem = format!(
            "{} holds a change of the ensemble's members that was not complete when this server stopped, which is not \
             served yet. When the rest of the ensemble has settled it, put the members into dynamicConfigFile and remove \
             that file",
            next.display()
        );
        Self::contradiction(place, problem)
    }
}

fn is_wildcard(host: &str) -> bool {
    host == "0.0.0.0" || host == "::"
}

/// `zoo.cfg.dynamic.100000004` is version 0x100000004; a name without such an end is version 0.
fn version_of(path: &str) -> i64 {
    let end = path.rsplit_once('.').map_or("", |(_, end)| end);
    i64::from_str_radix(end, 16).ok().filter(|version| *version >= 0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_dynamic_files() {
        let check = |path: &str, version: i64| assert_eq!(version_of(path), version, "{path}");
        check("/etc/zoo.cfg.dynamic.100000004", 0x1_0000_0004);
        check("/etc/zoo.cfg.dynamic.0", 0);
        check("/etc/zoo.cfg.dynamic", 0);
        check("/etc/zoo.d/members", 0);
        check("members", 0);
        check("zoo.cfg.dynamic.-4", 0);
        check("zoo.cfg.dynamic.ffffffffffffffffff", 0);
    }
}
