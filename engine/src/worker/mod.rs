//! A worker: some connections, their watches, one View, driven in turns (design.md §1).
//! Not here: deciding anything about writes or sessions (core), the tree (world), the bytes of records (wire).

pub mod watch;
