//! The transaction log: proposals made durable, and read back. Knows zxids and bytes; FORMAT.md draws the files.
//! Not here: what an entry means (wire, world), when to snapshot, what is committed.
//!
//! Invariants: nothing is reported durable before a sync of it returned `Ok`; a failed sync is never retried; recovery
//! never drops what was reported durable without saying so in an error.

mod ahead;
mod blocks;
pub mod epochs;
pub mod history;
pub mod mapping;
mod mark;
pub mod quarantine;
mod record;
mod recover;
mod request;
mod scan;
mod segments;
mod thread;
mod truncate;
mod turn;
mod writer;

pub use ahead::{Content, replay};
pub use mapping::EXIT_DISK;
pub use mark::{Mark, NAME as MARK_NAME};
pub use record::{
    At, Behind, FILE_HEADER_BYTES, FileId, Origin, Problem, RECORD_EXTRA_BYTES, Record, TRAILER_BYTES,
    file_header, is_undecodable_request, origin, put_epoch_record, put_record, record_at,
};
pub use recover::{
    Apply, Cut, LogEnd, Proof, RecoverError, RecoverSettings, Recovered, has_records, recover,
};
pub use request::RecoverUntil;
pub use scan::{Found, Scan, find_record, scan};
pub use segments::{LogFile, LogSpace, NoSpare, Spare, Spares, log_files, log_name, log_name_zxid};
pub use thread::{LogCounters, LogEvent, LogHandle, LogThread};
pub use truncate::{TruncateError, Truncation, truncate};
pub use turn::{Executed, LogAnswer, LogCommand, LogCommands, LogExecutor, LogWork};
pub use writer::{AppendError, LogFailure, LogSettings, LogWriter, Method, Written};

#[cfg(test)]
mod tests;
