//! The server's log on standard output, each line as Apache's:
//! `2026-11-20T17:45:33,006 [myid:1] - INFO  [main:server@415] - text`. Times are UTC.
//! `OSTLER_LOG` (or `RUST_LOG`) filters, as `debug` or `ostler_engine::core=trace,info`; the default is `info`.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use ostler_engine::config::Environment;

use crate::date;

/// Once per process, before anything is logged.
pub fn start(myid: Option<u64>, environment: &Environment) {
    let wanted = environment.get("OSTLER_LOG").or(environment.get("RUST_LOG")).unwrap_or("info");
    let (filter, complaint) = match EnvFilter::try_new(wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let lines = ServerLines { myid: myid.map_or(String::new(), |id| id.to_string()) };
    // A second start in one process keeps the first: harmless, and only tests do it.
    let _ = tracing_subscriber::fmt().with_ansi(false).with_env_filter(filter).event_format(lines).try_init();
    if let Some(error) = complaint {
        tracing::warn!("OSTLER_LOG={wanted} is not a filter ({error}); logging at info");
    }
}

struct ServerLines {
    myid: String,
}

impl<S, N> FormatEvent<S, N> for ServerLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let thread = std::thread::current();
        write!(
            out,
            "{} [myid:{}] - {:<5} [{}:{}@{}] - ",
            date::iso(millis),
            self.myid,
            meta.level().as_str(),
            thread.name().unwrap_or("unnamed"),
            meta.target().rsplit("::").next().unwrap_or_default(),
            meta.line().unwrap_or(0),
        )?;
        context.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("sink").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_have_the_prefix_people_cut_at() {
        let sink = Sink::default();
        let out = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .event_format(ServerLines { myid: "7".into() })
            .with_writer(move || out.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || tracing::warn!(zxid = 3, "text"));
        let line = String::from_utf8(sink.0.lock().expect("sink").clone()).expect("text");
        let (time, rest) = line.split_at(23);
        assert_eq!((time.as_bytes()[10], time.as_bytes()[19]), (b'T', b','));
        let at = rest.find('@').expect("line number");
        assert!(rest[..at].starts_with(" [myid:7] - WARN  ["), "{line}");
        assert!(rest[..at].ends_with(":tests"), "{line}");
        assert!(rest.ends_with("] - text zxid=3\n"), "{line}");
    }
}
