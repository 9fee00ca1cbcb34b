//! Seeded sequences of client operations and a player for them, for whoever compares servers: `script` makes the steps,
//! `play` plays them to one server, `describe` puts answers into comparable words, `known` says what is left out
//! because Apache is wrong there. Not here: starting servers, comparing them.

pub mod describe;
pub mod known;
pub mod play;
pub mod script;
