//! Load generator for any ZooKeeper server.
