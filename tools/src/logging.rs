//! The server's log, each line as Apache's: `2026-11-20T17:45:33,006 [myid:1] - INFO  [main:server@415] - text`. Times are
//! UTC. On standard output, or in a file that is opened again on SIGHUP. What is logged can change while the server runs.
//! Not here: the file (`log_file`), signals (`server`).

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use ostler_engine::config::Environment;

use crate::date;
use crate::log_file::LogFile;

const LEVEL: &str = "OSTLER_LOG";
pub const FILE: &str = "OSTLER_LOG_FILE";
const SIZE: &str = "OSTLER_LOG_SIZE";
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Of every command that runs a server. The variables reach a server in the background.
#[derive(clap::Args, Clone, Default)]
pub struct Options {
    /// What is logged: error, warn, info, debug or trace, or a filter such as info,ostler_engine::core=debug (else
    /// $OSTLER_LOG; else ostler.logLevel of the configuration, which is read again on SIGHUP; else info).
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Log into this file instead of standard output; rename it and send SIGHUP to have it opened anew (else $OSTLER_LOG_FILE).
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Set the log file aside as FILE.1 when it has so many MiB, and keep five such files (else $OSTLER_LOG_SIZE).
    #[arg(long, value_name = "MIB")]
    log_size: Option<u64>,
}

impl Options {
    /// Each that was given takes the place of its variable.
    pub fn put_into(&self, environment: &mut Environment) {
        let given = [
            (LEVEL, self.log_level.clone()),
            (FILE, self.log_file.as_ref().map(|file| file.display().to_string())),
            (SIZE, self.log_size.map(|size| size.to_string())),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                environment.variables.insert(name.to_owned(), value);
            }
        }
    }
}

/// The running log.
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    file: Option<Arc<LogFile>>,
    /// Decided on the command line or in the environment, so that the configuration does not count.
    level_is_given: bool,
}

/// Once per process, before anything is logged. `configured`: what the configuration says of the level.
pub fn start(myid: Option<u64>, environment: &Environment, configured: Option<&str>) -> Result<Log, String> {
    let given = environment.get(LEVEL).or(environment.get("RUST_LOG"));
    let filter = filter(given.or(configured).unwrap_or("info"))?;
    let size = environment.get(SIZE).map(|size| match size.parse::<u64>() {
        Ok(mebibytes @ 1..=1_048_576) => Ok(mebibytes << 20),
        _ => Err(format!("{SIZE} or --log-size is {size:?}; it should be a number of MiB, such as 100")),
    });
    let size = size.transpose()?;
    let file = environment.get(FILE).map(|path| {
        LogFile::open(path.into(), size).map(Arc::new).map_err(|error| {
            format!("the log file {path} cannot be opened: {error}; correct --log-file or ${FILE}")
        })
    });
    let file = file.transpose()?;
    if size.is_some() && file.is_none() {
        return Err(format!("--log-size (${SIZE}) is for a log file: name one with --log-file (${FILE})"));
    }
    let lines = ServerLines { myid: myid.map_or(String::new(), |id| id.to_string()) };
    let (filter, handle) = reload::Layer::new(filter);
    let writer = Sink(file.clone());
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).event_format(lines).with_writer(writer);
    // A second start in one process keeps the first: harmless, and only tests do it.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    Ok(Log { filter: handle, file, level_is_given: given.is_some() })
}

impl Log {
    /// Opens the file again, takes what the configuration says of the level, and says what that did.
    pub fn renew(&self, configured: Option<&str>) -> String {
        let file = match &self.file {
            None => "the log goes to standard output, which stays open".to_owned(),
            Some(file) => match file.reopen() {
                Ok(()) => format!("the log file {} was opened again", file.path().display()),
                Err(error) => {
                    format!(
                        "the log file {} cannot be opened, the one before stays: {error}",
                        file.path().display()
                    )
                }
            },
        };
        let level = match (self.level_is_given, configured.unwrap_or("info")) {
            (true, _) => "the log level stays as --log-level or $OSTLER_LOG has it".to_owned(),
            (false, level) => match filter(level).map(|filter| self.filter.reload(filter)) {
                Ok(Ok(())) => format!("the log level is {level}"),
                Ok(Err(error)) => format!("the log level stays: {error}"),
                Err(reason) => format!("the log level stays: {reason}"),
            },
        };
        format!("{file}; {level}")
    }
}

/// A level or a filter, or what is wrong with it. A misspelt level would be taken for the name of a module, and nothing
/// would be logged any more.
pub fn filter(wanted: &str) -> Result<EnvFilter, String> {
    let is_plain = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric());
    let parts = wanted.split(',').map(str::trim).filter(is_plain);
    for part in parts {
        if !LEVELS.iter().any(|level| part.eq_ignore_ascii_case(level)) {
            return Err(format!(
                "log level {part:?} is none of {}; a filter is written as info,ostler_engine::core=debug",
                LEVELS.join(", ")
            ));
        }
    }
    EnvFilter::try_new(wanted).map_err(|error| format!("log level {wanted:?} is no filter: {error}"))
}

/// Where lines go: a file, or standard output.
struct Sink(Option<Arc<LogFile>>);

/// One event's.
struct Out<'a>(Option<&'a LogFile>);

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Out<'a>;

    fn make_writer(&'a self) -> Out<'a> {
        Out(self.0.as_deref())
    }
}

impl Write for Out<'_> {
    /// A whole line: the subscriber makes it before it writes.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.0 {
            Some(file) => {
                file.write(line);
                Ok(line.len())
            }
            None => io::stdout().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
    fn a_misspelt_level_is_told() {
        for good in ["info", "DEBUG", "off", "info,ostler_engine::core=trace", "ostler_engine=warn", ""] {
            filter(good).unwrap_or_else(|reason| panic!("{reason}"));
        }
        for bad in ["inof", "info,debgu", "verbose", "a=b=c"] {
            let reason = filter(bad).expect_err(bad);
            assert!(reason.contains("log level"), "{reason}");
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
