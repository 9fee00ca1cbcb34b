//! One reply against the model: a write's against what it came to, a read's against the tree at its zxid.
//! Not here: the order of replies, how new a read must be.

use super::{Checked, Connection, Sent, Session, ensure};
use crate::model::{Answer, Model, ReadKind, Request, error};
use ostler_tests::client::{Reply, op};
use ostler_tests::jute::{Body, Reader};

pub(super) fn judge_write(
    made: &mut Connection,
    session: &Session,
    sent: &Sent,
    reply: &Reply,
    may_refuse: bool,
) -> Checked {
    if reply.err == error::NOT_READ_ONLY && !session.executed.contains_key(&sent.xid) {
        ensure!(may_refuse, "refused, but the disk was never full");
        made.unproposed.retain(|xid| *xid != sent.xid);
        return Ok(());
    }
    if let Some(rejected) = session.rejected.get(&sent.xid) {
        ensure!(
            (reply.zxid, reply.err) == (rejected.zxid, rejected.answer.err),
            "rejected at 0x{:x}",
            rejected.zxid
        );
        return Ok(());
    }
    ensure!(!made.refused.contains(&sent.xid), "a later write was executed before it");
    let executed =
        session.executed.get(&sent.xid).ok_or_else(|| format!("{sent:?} answered, but never executed"))?;
    ensure!(reply.zxid == executed.zxid, "executed at 0x{:x}", executed.zxid);
    let answer = Answer { err: reply.err, body: reply.body.clone() };
    ensure!(answer == executed.answer, "{sent:?} must be answered {:02x?}", executed.answer);
    Ok(())
}

pub(super) fn judge_read(model: &Model, made: &mut Connection, sent: &Sent, reply: &Reply) -> Checked {
    let zxid = reply.zxid;
    let watches = &mut made.watches;
    let caught_up = std::mem::take(&mut made.caught_up);
    let missed = match &sent.request {
        Request::SetWatches { relative, lists } => watches.set(model, zxid, *relative, lists),
        _ => Vec::new(),
    };
    ensure!(caught_up == missed, "{sent:?} brought {caught_up:?}, not {missed:?}");
    let expected = match &sent.request {
        Request::Read { path, kind, watch } => {
            let answer = model.read(path, *kind, zxid);
            let table = match kind {
                ReadKind::Exists | ReadKind::Data => &mut watches.data,
                ReadKind::Children | ReadKind::ChildrenStat => &mut watches.child,
            };
            if *watch && (answer.err == error::OK || *kind == ReadKind::Exists) {
                table.insert(path.clone());
            }
            answer
        }
        Request::AddWatch { path, recursive } => {
            let table = if *recursive { &mut watches.recursive } else { &mut watches.persistent };
            table.insert(path.clone());
            // ErrorResponse(0), as Apache has it.
            Answer { err: error::OK, body: Body::new().int(0).0 }
        }
        Request::SetWatches { .. } => Answer { err: error::OK, body: Vec::new() },
        Request::MultiRead(reads) => model.multi_read(reads, zxid),
        Request::FindWatches { path, kind, remove } => {
            let err = if watches.find(path, *kind, *remove) { error::OK } else { error::NO_WATCHER };
            Answer { err, body: Vec::new() }
        }
        Request::Sync { path } => Answer { err: error::OK, body: Body::new().string(path).0 },
        Request::Ephemerals => {
            let owned: Vec<String> = model.ephemerals(made.session, zxid).into_iter().collect();
            Answer { err: error::OK, body: Body::new().strings(&owned).0 }
        }
        Request::Ping => Answer { err: error::OK, body: Vec::new() },
        Request::Write(_) | Request::Multi(_) | Request::Close => return Err("no read".into()),
    };
    let body = match &sent.request {
        Request::Read { kind: ReadKind::Children | ReadKind::ChildrenStat, .. } | Request::Ephemerals
            if reply.err == 0 =>
        {
            sorted(&reply.body).ok_or("no list of names")?
        }
        Request::MultiRead(_) => sorted_results(&reply.body).ok_or("no list of results")?,
        _ => reply.body.clone(),
    };
    let answer = Answer { err: reply.err, body };
    ensure!(answer == expected, "{sent:?} at 0x{zxid:x} must be answered {expected:02x?}");
    Ok(())
}

/// A vector of names with whatever follows, the names in ascending order.
fn sorted(body: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader(body);
    let mut names = reader.strings()?;
    names.sort();
    Some(Body::new().strings(&names).raw(reader.0).0)
}

/// Results of a multiRead, the names of children in ascending order.
fn sorted_results(body: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader(body);
    let mut sorted = Body::new();
    loop {
        let (kind, done, err) = (reader.int()?, reader.byte()? != 0, reader.int()?);
        sorted = sorted.int(kind).bool(done).int(err);
        sorted = match kind {
            _ if done => return Some(sorted.raw(reader.0).0),
            op::GET_DATA => {
                let data = reader.buffer()?;
                sorted.buffer(data).raw(reader.take(STAT_BYTES)?)
            }
            op::GET_CHILDREN => {
                let mut names = reader.strings()?;
                names.sort();
                sorted.strings(&names)
            }
            _ => sorted.int(reader.int()?),
        };
    }
}

const STAT_BYTES: usize = 68;
