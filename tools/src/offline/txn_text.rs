//! One txn as a line of text, as Apache's TxnLogToolkit prints it.

use crate::date;
use ostler_engine::wire::jute::{Malformed, Reader};
use ostler_engine::wire::txn::{AclBytes, Create, CreateKind, TxnBody, TxnEntry, TxnHeader, kind};
use std::fmt::Write;

/// Of an entry without our trailer. An ACL brings a line end of its own, so a txn can span lines.
pub fn line(entry: &[u8]) -> Result<String, Malformed> {
    let (TxnEntry { header, body, .. }, _) = TxnEntry::decode(entry)?;
    let details = match body {
        TxnBody::Multi(_) => multi(&entry[TxnHeader::BYTES..])?,
        body => details(&body),
    };
    Ok(format!(
        "{} session 0x{:x} cxid 0x{:x} zxid 0x{:x} {} {details}",
        date::short(header.time.0),
        header.session.0,
        // Java makes a long of it first, which shows with negative ones.
        i64::from(header.cxid.0),
        header.zxid.0,
        type_name(header.kind)
    ))
}

fn type_name(kind: i32) -> &'static str {
    match kind {
        kind::CREATE_SESSION => "createSession",
        kind::CLOSE_SESSION => "closeSession",
        kind::ERROR => "error",
        kind::CREATE => "create",
        kind::CREATE2 => "create2",
        kind::CREATE_CONTAINER => "createContainer",
        kind::CREATE_TTL => "createTTL",
        kind::DELETE => "delete",
        kind::DELETE_CONTAINER => "deleteContainer",
        kind::SET_DATA => "setData",
        kind::SET_ACL => "setACL",
        kind::CHECK => "check",
        kind::MULTI => "multi",
        kind::RECONFIG => "reconfig",
        _ => "unknown",
    }
}

fn details(body: &TxnBody<'_>) -> String {
    match body {
        TxnBody::CreateSession { timeout_ms } => timeout_ms.to_string(),
        TxnBody::CloseSession { paths: None } => String::new(),
        TxnBody::CloseSession { paths: Some(paths) } => {
            let paths: Vec<String> = paths.iter().map(|path| csv(path)).collect();
            format!("v{{{}}}", paths.join(","))
        }
        TxnBody::Error { code } => code.to_string(),
        TxnBody::Create(create) => self::create(create),
        TxnBody::Delete { path } | TxnBody::DeleteContainer { path } => csv(path),
        TxnBody::SetData { path, data, version } | TxnBody::Reconfig { path, data, version } => {
            format!("{path},{},{version}", text(data.as_deref()))
        }
        TxnBody::SetAcl { path, acl, version } => {
            let entries: Vec<String> = acl_csv(acl).iter().map(|entry| format!("s{{{entry}}}")).collect();
            format!("{},v{{{}}},{version}", csv(path), entries.join(","))
        }
        // Taken apart by `multi`, which needs the bytes.
        TxnBody::Multi(_) => String::new(),
    }
}

fn create(create: &Create<'_>) -> String {
    let acl: Vec<String> = acl_csv(&create.acl).iter().map(|entry| format!("{entry}\n")).collect();
    let mut text = format!("{},{},[{}]", create.path, text(create.data.as_deref()), acl.join(", "));
    let cversion = create.parent_cversion;
    // Writing to a string cannot fail.
    let _ = match create.kind {
        CreateKind::Plain { ephemeral, .. } => write!(text, ",{ephemeral},{cversion}"),
        CreateKind::Container => write!(text, ",{cversion}"),
        CreateKind::Ttl(millis) => write!(text, ",{cversion},{millis}"),
    };
    text
}

/// Each operation's name and its bytes taken for text.
fn multi(body: &[u8]) -> Result<String, Malformed> {
    let operations = Reader::new(body).vector(|reader| {
        let kind = reader.i32()?;
        Ok(format!("{}:{}", type_name(kind), text(reader.buffer()?)))
    })?;
    Ok(operations.unwrap_or_default().join(";"))
}

fn text(data: Option<&[u8]>) -> String {
    String::from_utf8_lossy(data.unwrap_or_default()).into_owned()
}

/// The entries of an ACL in jute's text form.
fn acl_csv(acl: &AclBytes<'_>) -> Vec<String> {
    let entries = acl.decode();
    entries
        .iter()
        .map(|acl| format!("{},s{{{},{}}}", acl.perms, csv(&acl.id.scheme), csv(&acl.id.id)))
        .collect()
}

/// A string in jute's text form: a quote in front, and what would end it written as hex.
fn csv(text: &str) -> String {
    let mut out = String::from("'");
    for c in text.chars() {
        match c {
            '\0' => out.push_str("%00"),
            '\n' => out.push_str("%0A"),
            '\r' => out.push_str("%0D"),
            ',' => out.push_str("%2C"),
            '}' => out.push_str("%7D"),
            '%' => out.push_str("%25"),
            c => out.push(c),
        }
    }
    out
}
