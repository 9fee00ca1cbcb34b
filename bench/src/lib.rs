//! Load generator for any server that speaks ZooKeeper's protocol, limits of the machine, comparisons, reports.
//! Knows the wire only; never the engine's inside.

pub mod frames;
pub mod keys;
pub mod load;
pub mod measure;
