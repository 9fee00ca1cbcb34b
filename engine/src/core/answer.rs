//! The reply to a write, made of its txn and of what applying that gave. Pure: the leader, a server without an ensemble
//! and the learner that forwarded the request all answer by it, and so alike.
//! Not here: refusals that make no txn, handshakes, syncs.

use crate::model::{ErrorCode, Stat};
use crate::wire::reply::{self, MultiResult};
use crate::wire::{CreateKind, JutePut, SubTxn, TxnBody, TxnHeader};
use crate::world::{TxnReply, TxnResult};

/// Appends the whole frame.
pub(super) fn answer(header: &TxnHeader, body: &TxnBody<'_>, result: &TxnResult, out: &mut Vec<u8>) {
    let (xid, zxid) = (header.cxid, header.zxid);
    let bare = |out: &mut Vec<u8>, error| {
        out.extend_from_slice(&reply::head(reply::HEADER_BYTES, xid, zxid, error));
    };
    if result.error != 0 {
        return bare(out, result.error);
    }
    match (body, &result.reply) {
        (TxnBody::Create(create), TxnReply::Created(stat)) => {
            let stat = wants_stat(create.kind).then_some(stat);
            reply::frame_reply(out, xid, zxid, ErrorCode::Ok, |out| put_created(out, &create.path, stat));
        }
        (TxnBody::SetData { .. } | TxnBody::SetAcl { .. }, TxnReply::Stat(stat)) => {
            reply::frame_stat(out, xid, zxid, stat);
        }
        (TxnBody::Reconfig { data, .. }, TxnReply::Stat(stat)) => {
            reply::frame_data(out, xid, zxid, data.as_deref(), stat);
        }
        (TxnBody::Multi(parts), TxnReply::Multi(results)) => {
            assert_eq!(parts.len(), results.len());
            reply::frame_reply(out, xid, zxid, ErrorCode::Ok, |out| put_results(out, parts, results));
        }
        // Deletes and closeSession say no more than that they are done.
        _ => bare(out, 0),
    }
}

fn wants_stat(kind: CreateKind) -> bool {
    !matches!(kind, CreateKind::Plain { create2: false, .. })
}

fn put_created(out: &mut Vec<u8>, path: &str, stat: Option<&Stat>) {
    out.put_string(path);
    if let Some(stat) = stat {
        out.put_stat(stat);
    }
}

fn put_results(out: &mut Vec<u8>, parts: &[SubTxn<'_>], results: &[TxnResult]) {
    if parts.iter().any(|part| matches!(part, SubTxn::Error { .. })) {
        put_failed(out, parts);
    } else {
        parts.iter().zip(results).for_each(|(part, result)| put_result(out, part, result));
    }
    reply::put_multi_end(out);
}

/// If one fails, none counts: those before it are told 0, those behind it -2.
fn put_failed(out: &mut Vec<u8>, parts: &[SubTxn<'_>]) {
    let mut has_failed = false;
    for part in parts {
        let code = match part {
            SubTxn::Error { code, .. } => {
                has_failed = true;
                *code
            }
            _ if has_failed => ErrorCode::RuntimeInconsistency.to_wire(),
            _ => 0,
        };
        MultiResult::Error(code).put(out);
    }
}

fn put_result(out: &mut Vec<u8>, part: &SubTxn<'_>, result: &TxnResult) {
    match (part, &result.reply) {
        // Only where what a leader decided does not fit this tree, whose digest will tell.
        _ if result.error != 0 => MultiResult::Error(result.error).put(out),
        (SubTxn::Create(create), TxnReply::Created(stat)) => match wants_stat(create.kind) {
            true => MultiResult::Create2 { path: &create.path, stat: *stat }.put(out),
            false => MultiResult::Create { path: &create.path }.put(out),
        },
        (SubTxn::SetData { .. }, TxnReply::Stat(stat)) => MultiResult::SetData(*stat).put(out),
        (SubTxn::Check { .. }, _) => MultiResult::Check.put(out),
        _ => MultiResult::Delete.put(out),
    }
}
