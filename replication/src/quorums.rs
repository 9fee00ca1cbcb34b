//! The one place that knows whether a set of servers is a quorum: by majority, by groups with weights, and in two
//! configurations at once while a newer one is on its way.
//! Not here: who has voted or acknowledged what.

use crate::ServerId;
use crate::members::{Groups, Members};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The configurations that count now.
#[derive(Clone, Hash, Debug)]
pub struct Quorums {
    committed: Arc<Members>,
    /// Last seen, while it is newer than the committed one: both must agree then.
    next: Option<Arc<Members>>,
    voters: Vec<ServerId>,
}

impl Quorums {
    pub fn new(committed: Arc<Members>, last_seen: Option<Arc<Members>>) -> Quorums {
        let next = last_seen.filter(|next| next.version() > committed.version());
        let mut voters: Vec<ServerId> = committed.voters().to_vec();
        voters.extend(next.iter().flat_map(|next| next.voters()));
        voters.sort_unstable();
        voters.dedup();
        Quorums { committed, next, voters }
    }

    pub fn committed(&self) -> &Arc<Members> {
        &self.committed
    }

    /// The configuration that will be committed next, or is: what NEWLEADER carries.
    pub fn last_seen(&self) -> &Arc<Members> {
        self.next.as_ref().unwrap_or(&self.committed)
    }

    /// Voters of any of the configurations, ascending.
    pub fn voters(&self) -> &[ServerId] {
        &self.voters
    }

    pub fn is_voter(&self, id: ServerId) -> bool {
        self.voters.binary_search(&id).is_ok()
    }

    /// 0: never to be elected.
    pub fn weight(&self, id: ServerId) -> u64 {
        let next = self.next.as_ref().filter(|_| !self.committed.is_voter(id));
        next.unwrap_or(&self.committed).weight(id)
    }

    /// Whether the servers of whom this holds are a quorum, in every configuration that counts.
    pub fn reached(&self, holds: impl Fn(ServerId) -> bool) -> bool {
        is_quorum(&self.committed, &holds) && self.next.as_ref().is_none_or(|next| is_quorum(next, &holds))
    }

    /// The same in the committed configuration alone.
    pub fn reached_committed(&self, holds: impl Fn(ServerId) -> bool) -> bool {
        is_quorum(&self.committed, &holds)
    }

    /// The greatest mark that a quorum stands at or behind.
    pub fn agreed<T: Ord + Copy>(&self, mark: impl Fn(ServerId) -> Option<T>) -> Option<T> {
        let mut marks: Vec<T> = self.voters.iter().filter_map(|id| mark(*id)).collect();
        marks.sort_unstable_by(|a, b| b.cmp(a));
        marks.dedup();
        marks.into_iter().find(|least| self.reached(|id| mark(id).is_some_and(|mark| mark >= *least)))
    }

    /// How many servers the smallest quorum has.
    pub fn size(&self) -> usize {
        let next = self.next.as_ref().map_or(0, |next| smallest(next));
        smallest(&self.committed).max(next)
    }
}

fn is_quorum(members: &Members, holds: &impl Fn(ServerId) -> bool) -> bool {
    let holding = members.voters().iter().filter(|id| holds(**id));
    match members.groups() {
        None => holding.count() > members.voters().len() / 2,
        Some(groups) => {
            let mut won: BTreeMap<i64, u128> = BTreeMap::new();
            for id in holding {
                *won.entry(groups.group[id]).or_default() += u128::from(groups.weight[id]);
            }
            let totals = totals(groups);
            let counted = totals.values().filter(|total| **total > 0).count();
            won.iter().filter(|(group, weight)| **weight > totals[group] / 2).count() > counted / 2
        }
    }
}

/// The weight of each group, whoever is in it.
fn totals(groups: &Groups) -> BTreeMap<i64, u128> {
    let mut totals: BTreeMap<i64, u128> = BTreeMap::new();
    for (id, group) in &groups.group {
        *totals.entry(*group).or_default() += u128::from(groups.weight[id]);
    }
    totals
}

fn smallest(members: &Members) -> usize {
    let Some(groups) = members.groups() else { return members.voters().len() / 2 + 1 };
    let totals = totals(groups);
    let counted = totals.values().filter(|total| **total > 0).count();
    let mut costs: Vec<usize> =
        totals.iter().filter_map(|(group, total)| cost(members, groups, *group, *total)).collect();
    costs.sort_unstable();
    costs.iter().take(counted / 2 + 1).sum()
}

/// How many voters of a group are needed to win it, the heaviest first.
fn cost(members: &Members, groups: &Groups, group: i64, total: u128) -> Option<usize> {
    let mut weights: Vec<u128> = members
        .voters()
        .iter()
        .filter(|id| groups.group[*id] == group)
        .map(|id| u128::from(groups.weight[id]))
        .collect();
    weights.sort_unstable_by(|a, b| b.cmp(a));
    let mut sum = 0;
    weights
        .iter()
        .position(|weight| {
            sum += weight;
            sum > total / 2
        })
        .map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Arc<Members> {
        Arc::new(Members::parse(text).unwrap())
    }

    fn plain(ids: std::ops::RangeInclusive<u64>, version: u64) -> Arc<Members> {
        let lines: Vec<String> = ids.map(|id| format!("server.{id}=h{id}:1:2\n")).collect();
        members(&format!("{}version={version:x}", lines.concat()))
    }

    fn check(quorums: &Quorums, ids: &[u64], expected: bool) {
        assert_eq!(quorums.reached(|id| ids.contains(&id.0)), expected, "{ids:?}");
    }

    #[test]
    fn more_than_half_of_the_voters() {
        let quorums = Quorums::new(plain(1..=4, 0), None);
        check(&quorums, &[1, 2], false);
        check(&quorums, &[1, 2, 9, 8, 7], false);
        check(&quorums, &[1, 2, 4], true);
        assert_eq!(quorums.size(), 3);
    }

    #[test]
    fn observers_do_not_count() {
        let quorums =
            Quorums::new(members("server.1=a:1:2\nserver.2=b:1:2:observer\nserver.3=c:1:2:observer"), None);
        check(&quorums, &[2, 3], false);
        check(&quorums, &[1], true);
    }

    #[test]
    fn more_than_half_of_the_groups_each_by_more_than_half_of_its_weight() {
        let servers: String = (1..=9).map(|id| format!("server.{id}=h{id}:1:2\n")).collect();
        let text = format!(
            "{servers}group.1=1:2:3\ngroup.2=4:5:6\ngroup.3=7:8:9\nweight.7=0\nweight.8=0\nweight.9=0\nweight.1=3"
        );
        let quorums = Quorums::new(members(&text), None);
        // The third group has no weight and does not count, so both others are needed.
        check(&quorums, &[1, 7, 8, 9], false);
        check(&quorums, &[2, 3, 4, 5], false);
        check(&quorums, &[1, 4, 5], true);
        assert_eq!(quorums.size(), 3);
        assert_eq!(quorums.weight(ServerId(7)), 0);
        assert_eq!(quorums.weight(ServerId(1)), 3);
    }

    #[test]
    fn both_configurations_while_one_is_on_its_way() {
        let quorums = Quorums::new(plain(1..=3, 1), Some(plain(3..=5, 2)));
        check(&quorums, &[1, 2, 3], false);
        check(&quorums, &[3, 4, 5], false);
        check(&quorums, &[1, 3, 4], true);
        assert_eq!(quorums.voters().len(), 5);
        assert!(quorums.reached_committed(|id| id.0 < 3));
        let old = Quorums::new(plain(1..=3, 1), Some(plain(3..=5, 1)));
        check(&old, &[1, 2], true);
    }

    #[test]
    fn what_a_quorum_agrees_on_is_the_median_from_below() {
        let quorums = Quorums::new(plain(1..=5, 0), None);
        let marks = [10, 40, 30, 20, 50];
        assert_eq!(quorums.agreed(|id| marks.get(id.0 as usize - 1).copied()), Some(30));
        assert_eq!(quorums.agreed(|id| (id.0 < 3).then_some(1)), None);
        assert_eq!(quorums.agreed(|id| (id.0 < 4).then_some(id.0)), Some(1));
    }
}
