//! What the admin side may ask of one worker, answered between two turns' work.
//! Not here: rendering (`admin`).

use super::connection::{Connection, Connections};
use super::watch::{Counts, Name, Place, Watches};
use crate::admin::{ConnectionFacts, SessionFacts, WatchFacts};
use crate::limits::WATCHED_PATHS_PORTION;
use crate::model::SessionId;
use crate::wire::OpCode;
use crate::world::View;
use std::collections::HashMap;

pub struct Inspection<'a> {
    pub index: u16,
    pub(super) connections: &'a mut Connections,
    pub(super) watches: &'a Watches,
    /// Requests that the core has from this worker.
    pub outstanding: usize,
    /// The world this worker serves.
    pub view: &'a View,
}

impl Inspection<'_> {
    pub fn open_connections(&self) -> usize {
        self.connections.len()
    }

    pub fn watch_counts(&self) -> Counts {
        self.watches.counts()
    }

    pub fn connections(&self) -> Vec<ConnectionFacts> {
        self.connections.iter().map(|(_, connection)| facts(connection)).collect()
    }

    /// `crst`.
    pub fn reset_connections(&mut self) {
        self.connections.iter_mut().for_each(|connection| connection.figures.reset());
    }

    /// Who watches which path (data, exists and persistent watches): a portion, and where the next begins. A million
    /// paths in one go would keep clients waiting for a tenth of a second.
    pub fn watches(&self, from: Place) -> (Vec<WatchFacts>, Option<Place>) {
        let mut by_session: HashMap<SessionId, Vec<String>> = HashMap::new();
        let next = self.watches.portion(from, WATCHED_PATHS_PORTION, |name, slots| {
            let path = match name {
                Name::Stored(path) => Some(path.to_owned()),
                Name::Node(number) => self.view.path_of(number),
            };
            let Some(path) = path else { return };
            for connection in slots.filter_map(|slot| self.connections.get(slot)) {
                by_session.entry(connection.session).or_default().push(path.clone());
            }
        });
        (by_session.into_iter().map(|(session, paths)| WatchFacts { session, paths }).collect(), next)
    }
}

fn facts(connection: &Connection) -> ConnectionFacts {
    let figures = &connection.figures;
    let session = (connection.session != SessionId::NONE).then(|| SessionFacts {
        id: connection.session,
        timeout_ms: connection.timeout_ms,
        established: figures.established,
        operation_last: figures.last_op.map(OpCode::to_i32),
        cxid_last: figures.last_xid.into(),
        zxid_last: if figures.replies == 0 { -1 } else { figures.last_zxid.to_wire() },
        reply_last_ms: figures.last_reply_ms,
        latency_ms_last: figures.last_latency_ms.into(),
        latency_ms_least: (figures.replies > 0).then_some(figures.least_latency_ms.into()),
        latency_ms_average: figures.sum_latency_ms.checked_div(figures.replies).unwrap_or(0),
        latency_ms_most: figures.most_latency_ms.into(),
    });
    ConnectionFacts {
        peer: connection.peer(),
        interest: connection.wants_reading() as u32 | (connection.flags.blocked as u32) << 2,
        queued: connection.in_flight.len() as u64,
        received: figures.received,
        sent: figures.sent,
        session,
    }
}
