//! The seams that simulation replaces: disk, poll, clock.

pub mod clock;
pub mod directories;
pub mod disk;
pub mod disk_sim;
pub mod owners;
pub mod poll;
pub mod process;
