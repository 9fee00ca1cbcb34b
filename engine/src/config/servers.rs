//! `server.N` lines, as far as a server without an ensemble must understand them: who votes, and where this server's
//! clients connect. Not here: quorums, groups, weights; a configuration that needs those is refused by `load`.

/// One `server.N` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ServerLine {
    pub id: u64,
    pub votes: bool,
    /// Behind the `;`: host, if given, and port.
    pub client: Option<(Option<String>, u16)>,
}

/// What a line should have looked like.
pub(super) const WANTED: &str =
    "host:quorumPort:electionPort[:participant|:observer][;[clientHost:]clientPort]";

/// Reads `server.<id>` and its value. Several addresses are parted by `|`; hosts may stand in brackets.
pub(super) fn parse(key: &str, value: &str) -> Option<ServerLine> {
    let id = key.strip_prefix("server.")?.parse().ok()?;
    let (peers, client) = match value.split_once(';') {
        Some((peers, client)) => (peers, Some(self::client(client.trim())?)),
        None => (value, None),
    };
    let mut roles = peers.split('|').map(|peer| votes(peer.trim()));
    let votes = roles.next()??;
    roles.all(|role| role == Some(votes)).then_some(ServerLine { id, votes, client })
}

/// The host and the rest behind it. An IPv6 host stands in brackets.
fn host(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(host, rest)| (host, rest.strip_prefix(':').unwrap_or(rest))),
        None => text.split_once(':'),
    }
}

/// Whether `host:port:port[:role]` votes; `None` when it is not of that shape.
fn votes(peer: &str) -> Option<bool> {
    let (host, rest) = host(peer)?;
    let parts: Vec<&str> = rest.split(':').collect();
    let (quorum, election): (u16, u16) = (parts.first()?.parse().ok()?, parts.get(1)?.parse().ok()?);
    if host.is_empty() || quorum == election || parts.len() > 3 {
        return None;
    }
    match parts.get(2).map(|role| role.to_ascii_lowercase()).as_deref() {
        None | Some("participant") => Some(true),
        Some("observer") => Some(false),
        Some(_) => None,
    }
}

fn client(text: &str) -> Option<(Option<String>, u16)> {
    match host(text) {
        Some((host, port)) => Some((Some(host.to_owned()), port.parse().ok()?)),
        None => Some((None, text.parse().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Client = Option<(Option<&'static str>, u16)>;

    #[track_caller]
    fn check(value: &str, expected: Option<(bool, Client)>) {
        let found = parse("server.7", value);
        let expected = expected.map(|(votes, client)| ServerLine {
            id: 7,
            votes,
            client: client.map(|(host, port)| (host.map(str::to_owned), port)),
        });
        assert_eq!(found, expected, "{value}");
    }

    #[test]
    fn shapes() {
        check("h:2888:3888", Some((true, None)));
        check("h:2888:3888:Observer", Some((false, None)));
        check("h:2888:3888:participant;2181", Some((true, Some((None, 2181)))));
        check("h:2888:3888;10.0.0.1:2181", Some((true, Some((Some("10.0.0.1"), 2181)))));
        check("[::1]:2888:3888;[::]:2181", Some((true, Some((Some("::"), 2181)))));
        check("a:1:2|b:1:2:observer", None);
        check("a:1:2|b:3:4", Some((true, None)));
        check("h:2888:2888", None);
        check("h:2888", None);
        check("h:x:3888", None);
        check("", None);
        check("h:1:2:leader", None);
        check("h:1:2;port", None);
    }
}
