//! Load generator for any server that speaks ZooKeeper's protocol, limits of the machine, comparisons, reports.
//! Knows the wire only; never the engine's inside.

pub mod args;
pub mod circumstances;
pub mod client;
pub mod command;
pub mod compare;
pub mod echo;
pub mod ensemble;
pub mod failover;
pub mod frames;
pub mod goals;
pub mod instructions;
pub mod keys;
pub mod load;
pub mod measure;
pub mod observers;
pub mod plot;
pub mod proofs;
pub mod report;
pub mod rest;
pub mod scale;
pub mod scenario;
pub mod server;
pub mod statistics;
pub mod swarm;
pub mod sync_limit;
