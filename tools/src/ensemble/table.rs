//! What the servers of a local ensemble say of themselves, as a table: role, zxid, how far behind the leader, sessions.

use std::time::Duration;

use rustix::process::Pid;

use super::layout::Layout;
use crate::{verbs, words};

/// How long a server is given for an answer: one that hangs must not hold up the table.
const PATIENCE: Duration = Duration::from_millis(500);

/// What became of a server's process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    Stopped,
    /// By SIGSTOP: it lives, and does nothing.
    Paused(Pid),
    Running(Pid),
}

impl Life {
    pub fn of(pid: Option<Pid>) -> Life {
        match pid {
            None => Life::Stopped,
            Some(pid) if verbs::state(pid) == Some('T') => Life::Paused(pid),
            Some(pid) => Life::Running(pid),
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub number: usize,
    pub is_observer: bool,
    pub client_port: u16,
    pub life: Life,
    /// `None`: no answer.
    pub facts: Option<Facts>,
}

/// What `mntr` and `srvr` of a server tell.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Facts {
    /// Leader, follower, observer, standalone; `None` while it serves nobody.
    pub mode: Option<String>,
    pub zxid: u64,
    pub sessions: Option<u64>,
    pub connections: Option<u64>,
}

impl Facts {
    fn read(srvr: &str, mntr: &str) -> Facts {
        let line = |name: &str| srvr.lines().find_map(|line| line.strip_prefix(name));
        let count = |name: &str| {
            let found = mntr.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
            found.and_then(|value| value.trim().parse().ok())
        };
        Facts {
            mode: line("Mode: ").map(String::from),
            zxid: line("Zxid: 0x").and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0),
            sessions: count("zk_global_sessions"),
            connections: count("zk_num_alive_connections"),
        }
    }
}

/// Asks every server.
pub fn rows(layout: &Layout) -> Result<Vec<Row>, String> {
    layout
        .numbers()
        .map(|number| {
            let (place, config) = layout.load(number)?;
            let client_port = config.client.as_ref().map_or(0, |client| client.port);
            let life = Life::of(verbs::running(&place.pid_file(&config)));
            let ask = |word: &[u8]| {
                let answer = words::ask_within("127.0.0.1", client_port, word, PATIENCE).ok()?;
                Some(String::from_utf8_lossy(&answer).into_owned())
            };
            let facts = match life {
                Life::Running(_) => {
                    ask(b"srvr").map(|srvr| Facts::read(&srvr, &ask(b"mntr").unwrap_or_default()))
                }
                _ => None,
            };
            Ok(Row { number, is_observer: number > layout.voters, client_port, life, facts })
        })
        .collect()
}

/// The one that leads, if there is one.
pub fn leader(rows: &[Row]) -> Option<&Row> {
    let leads = |facts: &Facts| matches!(facts.mode.as_deref(), Some("leader" | "standalone"));
    rows.iter().find(|row| row.facts.as_ref().is_some_and(leads))
}

fn lag(zxid: u64, leader: Option<u64>) -> String {
    let Some(leader) = leader else { return "-".into() };
    if zxid >> 32 != leader >> 32 {
        return "in another epoch".into();
    }
    // Asked one after the other: the later answer may be ahead.
    leader.saturating_sub(zxid).to_string()
}

/// The table as text; numbers are aligned right.
pub fn text(rows: &[Row]) -> String {
    let header = ["server", "role", "epoch", "zxid", "lag", "sessions", "connections", "pid", "client port"];
    let leader = leader(rows).and_then(|row| row.facts.as_ref()).map(|facts| facts.zxid);
    let mut cells = vec![header.map(String::from)];
    for row in rows {
        let number = |value: Option<u64>| value.map_or("-".into(), |value| value.to_string());
        let facts = row.facts.as_ref();
        // A server without a role shows the zxid it stopped at, which is still worth seeing.
        let seen = facts.filter(|facts| facts.zxid > 0 || facts.mode.is_some());
        let role = match (row.life, facts) {
            (Life::Stopped, _) => "stopped".to_string(),
            (Life::Paused(_), _) => "paused".to_string(),
            (Life::Running(_), None) => "does not answer".to_string(),
            (Life::Running(_), Some(facts)) => {
                facts.mode.clone().unwrap_or_else(|| "looks for a leader".to_string())
            }
        };
        let role = if row.is_observer && role != "observer" { format!("{role} (observer)") } else { role };
        cells.push([
            row.number.to_string(),
            role,
            seen.map_or("-".into(), |facts| (facts.zxid >> 32).to_string()),
            seen.map_or("-".into(), |facts| format!("0x{:x}", facts.zxid)),
            seen.map_or("-".into(), |facts| lag(facts.zxid, leader)),
            number(facts.and_then(|facts| facts.sessions)),
            number(facts.and_then(|facts| facts.connections)),
            match row.life {
                Life::Running(pid) | Life::Paused(pid) => pid.as_raw_nonzero().to_string(),
                Life::Stopped => "-".into(),
            },
            row.client_port.to_string(),
        ]);
    }
    aligned(&cells)
}

fn aligned<const COLUMNS: usize>(cells: &[[String; COLUMNS]]) -> String {
    /// Columns of words.
    const LEFT: [usize; 2] = [1, 3];
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut text = String::new();
    for row in cells {
        let line: Vec<String> = (0..COLUMNS)
            .map(|column| {
                let pad = " ".repeat(widths[column] - row[column].chars().count());
                let cell = &row[column];
                if LEFT.contains(&column) { format!("{cell}{pad}") } else { format!("{pad}{cell}") }
            })
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: usize, life: Life, facts: Option<Facts>) -> Row {
        Row { number, is_observer: number > 3, client_port: 2180 + number as u16, life, facts }
    }

    #[test]
    fn answers_become_facts() {
        let srvr =
            "Zookeeper version: 3.9.5\nConnections: 1\nZxid: 0x20000002a\nMode: follower\nNode count: 5\n";
        let mntr = "zk_global_sessions\t7\nzk_num_alive_connections\t3\n";
        let expected = Facts {
            mode: Some("follower".into()),
            zxid: 0x2_0000_002a,
            sessions: Some(7),
            connections: Some(3),
        };
        assert_eq!(Facts::read(srvr, mntr), expected);
        let looking = "This ZooKeeper instance is not currently serving requests\n";
        assert_eq!(Facts::read(looking, looking), Facts::default());
    }

    #[test]
    fn the_table() {
        let pid = Pid::from_raw(77);
        let facts = |mode: &str, zxid| {
            Some(Facts { mode: Some(mode.into()), zxid, sessions: Some(2), connections: Some(1) })
        };
        let running = Life::Running(pid.expect("not 0"));
        let rows = [
            row(1, Life::Stopped, None),
            row(2, running, facts("leader", 0x3_0000_0010)),
            row(3, running, facts("follower", 0x3_0000_000e)),
            row(4, running, Some(Facts::default())),
            row(5, Life::Paused(pid.expect("not 0")), None),
        ];
        let expected = "\
server  role                           epoch  zxid         lag  sessions  connections  pid  client port
     1  stopped                            -  -              -         -            -    -         2181
     2  leader                             3  0x300000010    0         2            1   77         2182
     3  follower                           3  0x30000000e    2         2            1   77         2183
     4  looks for a leader (observer)      -  -              -         -            -   77         2184
     5  paused (observer)                  -  -              -         -            -   77         2185
";
        assert_eq!(text(&rows), expected);
        assert_eq!(leader(&rows).map(|row| row.number), Some(2));
        assert_eq!(lag(0x2_0000_0001, Some(0x3_0000_0000)), "in another epoch");
        assert_eq!((lag(5, None), lag(9, Some(7))), ("-".to_string(), "0".to_string()));
    }
}
