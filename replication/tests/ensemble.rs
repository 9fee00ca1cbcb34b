//! Ensembles of whole state machines: leaders come and go, and nothing that anybody saw is lost.

mod net;

use net::{Net, z};
use ostler_replication::{Answer, Ask, Input, Link, Role, ServerId, SessionBits, Ticket};

fn started(voters: u64, observers: u64) -> Net {
    let mut net = Net::new(voters, observers);
    for id in 1..=voters + observers {
        net.start(id);
    }
    net.until_all_serve();
    net
}

#[test]
fn three_servers_elect_commit_and_show_the_same() {
    let mut net = started(3, 0);
    let leader = net.leader().unwrap();
    for what in 0..5 {
        net.propose(leader, &[what * 2, what * 2 + 1]);
        net.quiesce();
    }
    assert_eq!(net.history.len(), 10);
    net.check_all_equal();
}

#[test]
fn a_single_voter_serves_alone() {
    let mut net = started(1, 0);
    assert_eq!(net.leader(), Some(1));
    net.propose(1, &[1, 2]);
    net.quiesce();
    net.step(1, Input::Barrier(Ticket(7)));
    assert_eq!(net.host(1).core.passed, [Ticket(7)]);
    assert_eq!(net.history.len(), 2);
    // Promise and epoch took one sync.
    assert_eq!(net.host(1).disk.epochs, (1, 1));
}

#[test]
fn an_observer_sees_everything_and_counts_nowhere() {
    let mut net = started(3, 1);
    let leader = net.leader().unwrap();
    net.propose(leader, &[1]);
    net.propose(leader, &[2, 3]);
    net.quiesce();
    net.check_all_equal();
    assert_eq!(net.host(4).core.role, Some(Role::Observing(ServerId(leader))));
    assert!(net.trace.iter().any(|line| line == &format!("{leader}>4 INFORM 1:2")));
    assert!(!net.trace.iter().any(|line| line.starts_with("4>") && line.contains("ACK 1:2")));
}

#[test]
fn the_leader_dies_and_the_others_go_on() {
    let mut net = started(3, 1);
    let first = net.leader().unwrap();
    net.propose(first, &[1, 2]);
    net.quiesce();
    net.crash(first, 0, false);
    net.until_all_serve();
    let second = net.leader().unwrap();
    assert_ne!(first, second);
    net.propose(second, &[3]);
    net.quiesce();
    net.start(first);
    net.until_all_serve();
    net.propose(second, &[4]);
    net.quiesce();
    assert_eq!(net.history.len(), 4);
    net.check_all_equal();
}

#[test]
fn a_deposed_leaders_tail_is_truncated() {
    let mut net = started(3, 0);
    let first = net.leader().unwrap();
    net.propose(first, &[1, 2]);
    net.quiesce();
    for other in (1..=3).filter(|&id| id != first) {
        net.cut.insert((first, other));
    }
    net.propose(first, &[100, 101]);
    net.quiesce();
    net.until("the others go on", |net| net.leader().is_some_and(|id| id != first));
    let second = net.leader().unwrap();
    net.propose(second, &[3]);
    net.quiesce();
    net.cut.clear();
    net.until_all_serve();
    net.quiesce();
    net.check_all_equal();
    assert!(net.trace.contains(&format!("{second}>{first} TRUNC 1:2")), "{}", net.tail());
}

#[test]
fn an_uncommitted_tail_that_a_winner_holds_is_committed_with_its_epoch() {
    let mut net = started(3, 0);
    let first = net.leader().unwrap();
    net.propose(first, &[1]);
    net.quiesce();
    // The proposal reaches the followers' disks, no acknowledgement comes back.
    net.propose(first, &[2]);
    while let Some(&(_, event)) = net
        .events()
        .iter()
        .find(|(_, event)| !matches!(event, net::Event::Log(_)) || *event != net::Event::Log(first))
    {
        let followers_done = (1..=3).filter(|&id| id != first).all(|id| net.hosts[&id].disk.log.len() == 2);
        if followers_done {
            break;
        }
        net.perform(event);
    }
    assert_eq!(net.history.len(), 1);
    net.crash(first, 0, false);
    net.until_all_serve();
    assert_eq!(net.history.len(), 2);
    net.start(first);
    net.until_all_serve();
    net.check_all_equal();
}

#[test]
fn a_new_server_takes_a_snapshot_when_the_log_does_not_reach_back() {
    let mut net = Net::new(3, 0);
    for id in 1..=2 {
        let host = net.host(id);
        host.disk.snapshot = (z(1, 5), (1..=5).map(|n| net::record(z(1, n), n.into())).collect());
        host.disk.epochs = (1, 1);
    }
    for id in 1..=3 {
        net.start(id);
    }
    net.until_all_serve();
    net.check_all_equal();
    let leader = net.leader().unwrap();
    assert!(net.trace.contains(&format!("{leader}>3 SNAP 1:5")), "{}", net.tail());
    net.propose(leader, &[6]);
    net.quiesce();
    net.check_all_equal();
}

#[test]
fn a_server_behind_the_cache_is_sent_history_from_disk() {
    let mut net = Net::new(3, 0);
    for id in 1..=3 {
        net.host(id).settings.cache.txns = 2;
        net.start(id);
    }
    net.until_all_serve();
    let leader = net.leader().unwrap();
    let late = (1..=3).find(|&id| id != leader).unwrap();
    net.propose(leader, &[0]);
    net.quiesce();
    net.crash(late, 0, false);
    for what in 1..20 {
        net.propose(leader, &[what]);
        net.quiesce();
    }
    let mark = net.trace.len();
    net.start(late);
    net.until_all_serve();
    net.check_all_equal();
    assert!(net.trace[mark..].contains(&format!("{leader}>{late} DIFF 1:14")), "{}", net.tail());
    assert!(net.trace[mark..].contains(&format!("{leader}>{late} COMMIT 1:2")));
}

#[test]
fn what_only_the_followers_disks_hold_is_sent_from_memory() {
    let mut net = Net::new(3, 1);
    for id in 1..=4 {
        net.host(id).settings.cache.txns = 1;
    }
    for id in 1..=3 {
        net.start(id);
    }
    net.until_all_serve();
    let leader = net.leader().unwrap();
    net.host(leader).is_log_held = true;
    net.propose(leader, &[1, 2, 3]);
    net.quiesce();
    assert_eq!(net.history.len(), 3, "the followers have committed it");
    net.start(4);
    net.until_all_serve();
    assert!(net.trace.contains(&format!("{leader}>4 DIFF 1:3")), "{}", net.tail());
    net.host(leader).is_log_held = false;
    net.quiesce();
    net.check_all_equal();
}

#[test]
fn a_follower_that_logged_an_uncommitted_record_comes_back_and_it_counts() {
    // Server 3 is down, so that each record needs the other follower.
    let mut net = started(3, 0);
    let leader = net.leader().unwrap();
    let (down, other) = match (1..=3).filter(|&id| id != leader).collect::<Vec<_>>()[..] {
        [a, b] => (a, b),
        _ => unreachable!(),
    };
    net.crash(down, 0, false);
    net.quiesce();
    assert_eq!(net.leader(), Some(leader));
    net.propose(leader, &[1]);
    net.quiesce();
    net.propose(leader, &[2]);
    while net.hosts[&other].disk.log.len() < 2 {
        let &(_, event) = net.events().first().unwrap();
        net.perform(event);
    }
    assert_eq!(net.history.len(), 1);
    // Its acknowledgement is lost with the connection.
    net.break_links(leader, other);
    net.until_all_serve();
    net.quiesce();
    assert_eq!(net.history.len(), 2, "{}", net.tail());
    net.check_all_equal();
}

#[test]
fn a_leader_without_quorum_steps_down_and_comes_back() {
    let mut net = started(3, 0);
    let leader = net.leader().unwrap();
    for other in (1..=3).filter(|&id| id != leader) {
        net.crash(other, 0, false);
    }
    net.until("it looks", |net| net.hosts[&leader].core.role == Some(Role::Looking));
    for other in (1..=3).filter(|&id| id != leader) {
        net.start(other);
    }
    net.until_all_serve();
}

#[test]
fn a_leader_whose_disk_hangs_hands_over() {
    let mut net = started(3, 0);
    let leader = net.leader().unwrap();
    net.host(leader).is_log_held = true;
    net.propose(leader, &[1]);
    net.until("another leads", |net| net.leader().is_some_and(|id| id != leader));
    assert_eq!(net.history.len(), 1, "the followers had it, and it was committed without the leader's disk");
    net.host(leader).is_log_held = false;
    net.until_all_serve();
    net.check_all_equal();
}

#[test]
fn a_leader_steps_down_when_its_core_says_so() {
    let mut net = started(3, 0);
    let leader = net.leader().unwrap();
    net.step(leader, Input::StepDown("the disk is full".into()));
    assert_eq!(net.host(leader).core.role, Some(Role::Looking));
    assert_eq!(net.host(leader).core.reports, ["leads no longer: the disk is full"]);
    net.until_all_serve();
}

#[test]
fn requests_answers_and_touches_pass_between_learner_and_leader() {
    let mut net = started(3, 1);
    let leader = net.leader().unwrap();
    let ask = Ask::Revalidate { session: SessionBits(7), timeout_ms: 9000 };
    net.step(4, Input::Ask(ask.clone()));
    net.step(4, Input::Touched(vec![(SessionBits(7), 9000), (SessionBits(8), 4000)]));
    net.run_ms(100);
    let (link, asked) = net.host(leader).core.asked[0].clone();
    assert_eq!((link.peer, asked), (ServerId(4), ask));
    assert_eq!(net.host(leader).core.touches, [(SessionBits(7), 9000), (SessionBits(8), 4000)]);
    let answer = Answer::Revalidated { session: SessionBits(7), valid: true };
    net.step(leader, Input::Answer(link, answer.clone()));
    net.quiesce();
    assert_eq!(net.host(4).core.answered, [answer]);
    // Each PING's answer clears what it told.
    net.run_ms(200);
    assert_eq!(net.host(leader).core.touches.len(), 2);
}

#[test]
fn a_learner_that_is_gone_is_told_to_the_core() {
    let mut net = started(3, 1);
    let leader = net.leader().unwrap();
    net.crash(4, 0, false);
    net.quiesce();
    assert!(matches!(net.host(leader).core.lost[..], [Link { peer: ServerId(4), .. }]));
}

#[test]
fn a_barrier_passes_when_a_quorum_of_voters_has_answered() {
    let mut net = started(3, 1);
    let leader = net.leader().unwrap();
    net.step(leader, Input::Barrier(Ticket(1)));
    assert!(net.host(leader).core.passed.is_empty());
    net.quiesce();
    assert_eq!(net.host(leader).core.passed, [Ticket(1)]);
    // An observer's answer is not enough.
    for other in (1..=3).filter(|&id| id != leader) {
        net.cut.insert((leader, other));
    }
    net.step(leader, Input::Barrier(Ticket(2)));
    net.quiesce();
    assert_eq!(net.host(leader).core.passed, [Ticket(1)]);
}

#[test]
fn a_barrier_behind_proposals_waits_for_them() {
    let mut net = started(3, 0);
    let leader = net.leader().unwrap();
    net.host(leader).is_log_held = true;
    for id in 1..=3 {
        net.host(id).is_log_held = true;
    }
    net.propose(leader, &[1]);
    net.step(leader, Input::Barrier(Ticket(1)));
    net.quiesce();
    assert!(net.host(leader).core.passed.is_empty());
    for id in 1..=3 {
        net.host(id).is_log_held = false;
    }
    net.quiesce();
    assert_eq!(net.host(leader).core.passed, [Ticket(1)]);
}

#[test]
fn the_same_run_twice_is_the_same() {
    let run = || {
        let mut net = started(5, 1);
        let leader = net.leader().unwrap();
        net.propose(leader, &[1, 2]);
        net.quiesce();
        net.crash(leader, 1, false);
        net.until_all_serve();
        net.trace
    };
    assert_eq!(run(), run());
}

#[test]
fn random_walks_lose_nothing() {
    let first: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let count: u64 = std::env::var("WALKS").ok().and_then(|count| count.parse().ok()).unwrap_or(100);
    for seed in first..first + count {
        println!("seed={seed}");
        net::walk::walk(seed);
    }
}
