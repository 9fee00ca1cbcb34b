//! What a run has looked at, counted by kind.

use std::collections::BTreeMap;

/// Numbers by name.
#[derive(Clone, Default, Debug)]
pub struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    pub fn add(&mut self, name: &'static str, count: u64) {
        *self.0.entry(name).or_default() += count;
    }

    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    pub fn sum(&self) -> u64 {
        self.0.values().sum()
    }

    pub fn merge(&mut self, other: &Counts) {
        other.0.iter().for_each(|(name, count)| self.add(name, *count));
    }

    fn print(&self, title: &str) {
        println!("{title}");
        self.0.iter().for_each(|(name, count)| println!("{count:>10}  {name}"));
    }
}

#[derive(Clone, Default, Debug)]
pub struct Figures {
    /// Places where a process was killed, or a kill and power cuts were tried. No place counts twice.
    pub points: Counts,
    /// Places like any other but for where they fall among writes of zeros: not counted as points.
    pub idle: Counts,
    /// Disks that were started from and judged, by how they came about.
    pub disks: Counts,
    /// Sets of unsynced pages and names: gone through whole, or sampled.
    pub sets: Counts,
    /// Damaged and torn logs, by what was done and what came of it.
    pub damage: Counts,
}

impl Figures {
    pub fn merge(&mut self, other: &Figures) {
        self.points.merge(&other.points);
        self.idle.merge(&other.idle);
        self.disks.merge(&other.disks);
        self.sets.merge(&other.sets);
        self.damage.merge(&other.damage);
    }

    pub fn print(&self) {
        self.points.print("kill points");
        println!("{:>10}  kill points in all", self.points.sum());
        self.idle.print("beside them");
        self.disks.print("disks started from and judged");
        self.sets.print("sets of what was not synced");
        self.damage.print("torn and damaged logs");
    }
}
