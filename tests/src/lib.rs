//! Helpers shared by the integration tests: real peers, temporary directories, seeds.
