//! The only door between the engine and whatever decides what is committed.
