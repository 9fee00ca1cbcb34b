//! The lists of multi and multiRead, and of their results: what a list may hold, and how Apache's
//! reader changes what it holds.
//! Not here: what the operations do.

use super::jute::{JutePut, Malformed, Reader};
use super::op::OpCode;
use super::request::{CreateRecord, CreateRequest};
use crate::model::Stat;
use std::borrow::Cow;

/// One operation of a multi.
#[derive(Clone, PartialEq, Debug)]
pub enum MultiOp<'a> {
    /// `op` is what the operation became: a container flag makes createContainer of create and create2, and createTTL
    /// without a TTL flag is a create.
    Create(CreateRequest<'a>),
    Delete {
        path: Cow<'a, str>,
        version: i32,
    },
    SetData {
        path: Cow<'a, str>,
        data: Option<&'a [u8]>,
        version: i32,
    },
    Check {
        path: Cow<'a, str>,
        version: i32,
    },
}

/// One operation of a multiRead; the watch flags sent with them mean nothing.
#[derive(Clone, PartialEq, Debug)]
pub enum MultiReadOp<'a> {
    GetData { path: Cow<'a, str> },
    GetChildren { path: Cow<'a, str> },
}

/// One result of a multi or multiRead.
#[derive(Clone, PartialEq, Debug)]
pub enum MultiResult<'a> {
    Create {
        path: &'a str,
    },
    /// create2, createContainer and createTTL alike.
    Create2 {
        path: &'a str,
        stat: Stat,
    },
    Delete,
    SetData(Stat),
    Check,
    GetData {
        data: Option<&'a [u8]>,
        stat: Stat,
    },
    GetChildren(&'a [&'a str]),
    /// In a failed multi: 0 before the failing operation, its code, -2 after it.
    Error(i32),
}

/// Type of the next operation, `None` at the end. The end is told by `done`, not by the type.
fn header(r: &mut Reader<'_>) -> Result<Option<i32>, Malformed> {
    let (kind, done, _err) = (r.i32()?, r.bool()?, r.i32()?);
    Ok((!done).then_some(kind))
}

/// A multi's list. The first thing wrong with it decides, but null paths are only looked for in a list that is whole.
pub(super) fn decode<'a>(r: &mut Reader<'a>) -> Result<Vec<MultiOp<'a>>, Malformed> {
    let mut ops = Vec::new();
    let mut reads = false;
    let mut null_path = false;
    let mut some = |path: Option<Cow<'a, str>>| {
        null_path |= path.is_none();
        path.unwrap_or_default()
    };
    while let Some(kind) = header(r)? {
        ops.push(match OpCode::from_i32(kind) {
            Some(op @ (OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl)) => {
                let mut record = CreateRecord::read(op, r)?;
                record.path = Some(some(record.path.take()));
                let create = as_read_in_multi(record.request()?)?;
                if reads {
                    return Err(Malformed::Disallowed);
                }
                MultiOp::Create(create)
            }
            // A list of reads becomes a wrong one by its end, or by the first write that is itself in order.
            Some(OpCode::GetData | OpCode::GetChildren) if ops.is_empty() => {
                let _path_and_watch = (r.string()?, r.bool()?);
                reads = true;
                continue;
            }
            _ if reads => return Err(Malformed::Disallowed),
            Some(OpCode::Delete) => MultiOp::Delete { path: some(r.string()?), version: r.i32()? },
            Some(OpCode::SetData) => {
                MultiOp::SetData { path: some(r.string()?), data: r.buffer()?, version: r.i32()? }
            }
            Some(OpCode::Check) => MultiOp::Check { path: some(r.string()?), version: r.i32()? },
            _ => return Err(Malformed::Disallowed),
        });
    }
    if reads {
        return Err(Malformed::Disallowed);
    }
    if null_path { Err(Malformed::Null) } else { Ok(ops) }
}

/// CreateMode numbers that matter to a multi's reader.
const FLAGS_CONTAINER: i32 = 4;
const FLAGS_MAX: i32 = 6;

/// Apache reads a multi's creates by their flags as much as by their op (all of this observed on 3.9.5).
fn as_read_in_multi(mut request: CreateRequest<'_>) -> Result<CreateRequest<'_>, Malformed> {
    let flags_known = (0..=FLAGS_MAX).contains(&request.flags);
    let flags_ttl = flags_known && request.flags > FLAGS_CONTAINER;
    if request.op == OpCode::CreateTtl {
        if flags_known && !flags_ttl {
            request.ttl = -1;
            request.op = OpCode::Create;
        }
        // With an unknown flag, a bad ttl or a null ACL this operation alone fails, when it is validated.
    } else if !flags_known {
        return Err(Malformed::Disallowed);
    } else if request.acl.is_null() {
        return Err(Malformed::NullAcl);
    } else if flags_ttl {
        return Err(Malformed::Disallowed);
    }
    if request.flags == FLAGS_CONTAINER {
        request.op = OpCode::CreateContainer;
    }
    Ok(request)
}

/// A multiRead's list.
pub(super) fn decode_read<'a>(r: &mut Reader<'a>) -> Result<Vec<MultiReadOp<'a>>, Malformed> {
    let mut ops = Vec::new();
    while let Some(kind) = header(r)? {
        let op = OpCode::from_i32(kind);
        if !matches!(op, Some(OpCode::GetData | OpCode::GetChildren)) {
            return Err(Malformed::Disallowed);
        }
        let (path, _watch) = (r.text()?, r.bool()?);
        ops.push(match op {
            Some(OpCode::GetData) => MultiReadOp::GetData { path },
            _ => MultiReadOp::GetChildren { path },
        });
    }
    Ok(ops)
}

pub(super) fn encode(ops: &[MultiOp<'_>], out: &mut Vec<u8>) {
    for op in ops {
        match op {
            MultiOp::Create(request) => {
                put_multi_header(out, request.op.to_i32(), false, -1);
                request.encode(out);
            }
            MultiOp::Delete { path, version } => {
                put_multi_header(out, OpCode::Delete.to_i32(), false, -1);
                out.put_string(path);
                out.put_i32(*version);
            }
            MultiOp::SetData { path, data, version } => {
                put_multi_header(out, OpCode::SetData.to_i32(), false, -1);
                out.put_string(path);
                out.put_buffer(*data);
                out.put_i32(*version);
            }
            MultiOp::Check { path, version } => {
                put_multi_header(out, OpCode::Check.to_i32(), false, -1);
                out.put_string(path);
                out.put_i32(*version);
            }
        }
    }
    put_multi_end(out);
}

pub(super) fn encode_read(ops: &[MultiReadOp<'_>], out: &mut Vec<u8>) {
    for op in ops {
        let (kind, path) = match op {
            MultiReadOp::GetData { path } => (OpCode::GetData, path),
            MultiReadOp::GetChildren { path } => (OpCode::GetChildren, path),
        };
        put_multi_header(out, kind.to_i32(), false, -1);
        out.put_string(path);
        out.put_bool(false);
    }
    put_multi_end(out);
}

impl MultiResult<'_> {
    /// Appends the result with the header before it.
    pub fn put(&self, out: &mut Vec<u8>) {
        let mut header = |op: OpCode| put_multi_header(out, op.to_i32(), false, 0);
        match self {
            MultiResult::Create { path } => {
                header(OpCode::Create);
                out.put_string(path);
            }
            MultiResult::Create2 { path, stat } => {
                header(OpCode::Create2);
                out.put_string(path);
                out.put_stat(stat);
            }
            MultiResult::Delete => header(OpCode::Delete),
            MultiResult::SetData(stat) => {
                header(OpCode::SetData);
                out.put_stat(stat);
            }
            MultiResult::Check => header(OpCode::Check),
            MultiResult::GetData { data, stat } => {
                header(OpCode::GetData);
                out.put_buffer(*data);
                out.put_stat(stat);
            }
            MultiResult::GetChildren(names) => {
                header(OpCode::GetChildren);
                out.put_count(names.len());
                for name in *names {
                    out.put_string(name);
                }
            }
            MultiResult::Error(code) => {
                put_multi_header(out, OpCode::Error.to_i32(), false, *code);
                out.put_i32(*code);
            }
        }
    }
}

/// Precedes each operation of a request (with err -1) and each result.
pub fn put_multi_header(out: &mut Vec<u8>, kind: i32, done: bool, error: i32) {
    out.put_i32(kind);
    out.put_bool(done);
    out.put_i32(error);
}

/// Ends a list of operations, and of results.
pub fn put_multi_end(out: &mut Vec<u8>) {
    put_multi_header(out, -1, true, -1);
}

#[cfg(test)]
mod tests {
    use super::super::request::{AclField, Request};
    use super::super::txn::AclBytes;
    use super::*;

    const END: [u8; 9] = [0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 0xff, 0xff];

    fn list(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out);
        out.extend_from_slice(&END);
        out
    }

    /// One create of a multi, as a client may send it.
    fn create(op: OpCode, path: Option<&str>, acl: &[u8], flags: i32, ttl: i64) -> Vec<u8> {
        list(|out| {
            put_multi_header(out, op.to_i32(), false, -1);
            out.put_nullable(path);
            out.put_buffer(Some(b"d"));
            out.extend_from_slice(acl);
            out.put_i32(flags);
            if op == OpCode::CreateTtl {
                out.put_i64(ttl);
            }
        })
    }

    fn check(list: &[u8], expected: Result<OpCode, Malformed>) {
        let found = Request::decode(OpCode::Multi, list).map(|request| match request {
            Request::Multi(ops) => match &ops[..] {
                [MultiOp::Create(request)] => request.op,
                other => panic!("one create expected, not {other:?}"),
            },
            other => panic!("not a multi: {other:?}"),
        });
        assert_eq!(found, expected, "{list:02x?}");
    }

    #[test]
    fn creates_become_what_their_flags_say() {
        use OpCode::{Create, Create2, CreateContainer, CreateTtl};
        let open = AclBytes::OPEN_BYTES;
        for op in [Create, Create2, CreateContainer] {
            for flags in 0..4 {
                check(&create(op, Some("/a"), open, flags, 0), Ok(op));
            }
            check(&create(op, Some("/a"), open, 4, 0), Ok(CreateContainer));
            for flags in [5, 6, 7, -1] {
                check(&create(op, Some("/a"), open, flags, 0), Err(Malformed::Disallowed));
            }
            // An unknown flag is found before a null ACL, a TTL flag after it.
            check(&create(op, Some("/a"), &[0xff; 4], 7, 0), Err(Malformed::Disallowed));
            for flags in [0, 5] {
                check(&create(op, Some("/a"), &[0xff; 4], flags, 0), Err(Malformed::NullAcl));
            }
            // A negative count that is not -1 is an empty list, which fails the operation only.
            check(&create(op, Some("/a"), &[0xff, 0xff, 0xff, 0xfd], 0, 0), Ok(op));
        }
        for (flags, op) in [(0, Create), (3, Create), (4, CreateContainer), (5, CreateTtl), (7, CreateTtl)] {
            check(&create(CreateTtl, Some("/a"), open, flags, 1000), Ok(op));
        }
        check(&create(CreateTtl, Some("/a"), &[0xff; 4], 5, 1000), Ok(CreateTtl));
        let behind_a_read = |acl| {
            let mut list = Vec::new();
            put_multi_header(&mut list, OpCode::GetData.to_i32(), false, -1);
            list.put_string("/a");
            list.push(1);
            list.extend_from_slice(&create(Create, Some("/a"), acl, 0, 0));
            list
        };
        check_list(OpCode::Multi, &behind_a_read(open), Err(Malformed::Disallowed));
        check_list(OpCode::Multi, &behind_a_read(&[0xff; 4]), Err(Malformed::NullAcl));
        check(&create(Create, None, open, 0, 0), Err(Malformed::Null));
        check(&create(Create, None, &[0xff; 4], 0, 0), Err(Malformed::NullAcl));
    }

    fn check_list(op: OpCode, list: &[u8], expected: Result<usize, Malformed>) {
        let found = Request::decode(op, list).map(|request| match request {
            Request::Multi(ops) => ops.len(),
            Request::MultiRead(ops) => ops.len(),
            other => panic!("no list: {other:?}"),
        });
        assert_eq!(found, expected, "{list:02x?}");
    }

    #[test]
    fn lists_as_a_whole() {
        let delete = |out: &mut Vec<u8>, path: Option<&str>| {
            put_multi_header(out, 2, false, -1);
            out.put_nullable(path);
            out.put_i32(-1);
        };
        let get = |out: &mut Vec<u8>| {
            put_multi_header(out, 4, false, -1);
            out.put_string("/a");
            out.put_bool(true);
        };
        check_list(OpCode::Multi, &END, Ok(0));
        check_list(OpCode::MultiRead, &END, Ok(0));
        check_list(OpCode::Multi, &list(|out| delete(out, Some("/a"))), Ok(1));
        check_list(OpCode::Multi, &list(|out| delete(out, None)), Err(Malformed::Null));
        check_list(OpCode::MultiRead, &list(get), Ok(1));
        check_list(OpCode::Multi, &list(get), Err(Malformed::Disallowed));
        check_list(OpCode::MultiRead, &list(|out| delete(out, Some("/a"))), Err(Malformed::Disallowed));
        for op in [6, 7, 20, 14, 99, -1] {
            let list = list(|out| put_multi_header(out, op, false, -1));
            check_list(OpCode::Multi, &list, Err(Malformed::Disallowed));
            check_list(OpCode::MultiRead, &list, Err(Malformed::Disallowed));
        }
        let whole = list(|out| delete(out, Some("/a")));
        for cut in 0..whole.len() {
            check_list(OpCode::Multi, &whole[..cut], Err(Malformed::Truncated));
        }
        // The end is told by `done` alone.
        check_list(OpCode::Multi, &[0, 0, 0, 5, 1, 0xff, 0xff, 0xff, 0xff], Ok(0));
    }

    #[test]
    fn what_takes_a_zxid() {
        for (malformed, single, multi) in [
            (Malformed::Truncated, false, true),
            (Malformed::Null, true, true),
            (Malformed::Disallowed, false, true),
            (Malformed::NullAcl, false, false),
        ] {
            assert_eq!(malformed.takes_zxid(OpCode::Create), single, "{malformed:?}");
            assert_eq!(malformed.takes_zxid(OpCode::Multi), multi, "{malformed:?}");
        }
    }

    /// The results of a multi, recorded from a running 3.9.5 server.
    #[test]
    fn a_failed_multis_results() {
        let body =
            list(|out| [0, 0, -101, -2].into_iter().for_each(|code| MultiResult::Error(code).put(out)));
        let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "ffffffff00 00000000 00000000 ffffffff00 00000000 00000000 ffffffff00 ffffff9b ffffff9b \
                        ffffffff00 fffffffe fffffffe ffffffff01ffffffff";
        assert_eq!(hex, expected.replace(' ', ""));
    }

    /// Answers of Apache 3.9.5 to a create and to a check.
    #[test]
    fn a_good_multis_results() {
        let hex = |body: Vec<u8>| body.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let create = list(|out| MultiResult::Create { path: "/m1_0" }.put(out));
        assert_eq!(hex(create), "000000010000000000000000052f6d315f30ffffffff01ffffffff");
        let check = list(|out| MultiResult::Check.put(out));
        assert_eq!(hex(check), "0000000d0000000000ffffffff01ffffffff");
    }

    #[test]
    fn encoded_lists_decode() {
        let request = CreateRequest {
            op: OpCode::Create2,
            path: "/a".into(),
            data: None,
            acl: AclField::of(&AclBytes::OPEN),
            flags: 1,
            ttl: -1,
        };
        let ops = vec![
            MultiOp::Create(request),
            MultiOp::Delete { path: "/b".into(), version: 1 },
            MultiOp::SetData { path: "/c".into(), data: Some(b"x"), version: 2 },
            MultiOp::Check { path: "/d".into(), version: 3 },
        ];
        let mut out = Vec::new();
        encode(&ops, &mut out);
        assert_eq!(decode(&mut Reader::new(&out)), Ok(ops));
        let reads =
            vec![MultiReadOp::GetData { path: "/a".into() }, MultiReadOp::GetChildren { path: "/b".into() }];
        let mut out = Vec::new();
        encode_read(&reads, &mut out);
        assert_eq!(decode_read(&mut Reader::new(&out)), Ok(reads));
    }
}
