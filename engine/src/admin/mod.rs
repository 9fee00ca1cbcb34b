//! What operators and monitoring ask of a running server: counters, four-letter words, facts about the process.
//! Not here: HTTP (later), decisions. Rendering is pure: whoever owns the data fills the structs of `facts`.

pub mod counters;
mod date;
pub mod facts;
mod line_rate;
mod mntr;
pub mod process;
pub mod words;

pub use counters::{Counter, Counters, Registry, Summary, Totals};
pub use facts::{
    ConnectionFacts, DirectoryFacts, EnsembleFacts, LeaderFacts, Mode, QuotaFacts, ServerFacts, SessionFacts,
    StateFacts, WatchFacts,
};
pub use line_rate::LineRate;
pub use words::FourLetter;
