//! `ostler check`: says in plain words what a configuration means here, key by key, and starts nothing.

use ostler_engine::config::{self, Config, Environment, Fate, Loaded, Setting, Severity};

use crate::exit;

pub fn run(words: &[String]) -> i32 {
    match config::load(words, &Environment::of_process()) {
        Ok(loaded) => {
            print!("{}", report(&loaded));
            exit::OK
        }
        Err(error) => {
            println!("Not valid: {error}");
            exit::CONFIG
        }
    }
}

fn report(loaded: &Loaded) -> String {
    let mut text = String::new();
    let mut paragraph = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text.push_str(&format!("{title}\n"));
            lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
            text.push('\n');
        }
    };
    paragraph("Settings:", loaded.settings.iter().map(explain).collect());
    for (severity, title) in [
        (Severity::Danger, "Weaker than usual:"),
        (Severity::Warning, "Warnings:"),
        (Severity::Info, "Notes:"),
    ] {
        let of_this = loaded.notices.iter().filter(|notice| notice.severity == severity);
        paragraph(title, of_this.map(|notice| notice.text.clone()).collect());
    }
    paragraph("The server would:", summary(&loaded.config));
    text.push_str("Valid.\n");
    text
}

/// One setting: where, what, and what it does.
fn explain(setting: &Setting) -> String {
    let head = format!("{}: {}={}", setting.origin, setting.spelling, setting.value);
    let Some(key) = setting.key else {
        let server = setting.spelling.starts_with("server.");
        return format!("{head} - {}", if server { "a member of an ensemble" } else { "see the warnings" });
    };
    match key.fate {
        Fate::Honoured => format!("{head} - {} (default: {})", key.meaning, key.default),
        Fate::Ensemble => format!("{head} - {}; nothing to a server that runs alone", key.meaning),
        Fate::Later(reason) => format!("{head} - {}; no effect: {reason}", key.meaning),
        Fate::Ignored(reason) => format!("{head} - no effect: {reason}"),
    }
}

/// What is decided, whoever decided it.
fn summary(config: &Config) -> Vec<String> {
    let limit =
        |number: u32| if number == 0 { "any number of".to_owned() } else { format!("at most {number}") };
    let mut lines = Vec::new();
    if let Some(client) = config.client {
        let host = client.address.map_or("all interfaces".to_owned(), |address| address.to_string());
        lines.push(format!("listen for clients on port {} of {host}", client.port));
    }
    lines.push(format!("keep snapshots in {}/version-2", config.data_dir.display()));
    lines.push(format!("keep its txn log in {}/version-2", config.data_log_dir.display()));
    lines.push(format!(
        "grant session timeouts from {} to {} ms, in ticks of {} ms",
        config.session_timeout_ms_least, config.session_timeout_ms_most, config.tick_ms
    ));
    lines.push(format!(
        "take {} connections from one address, {} in all",
        limit(config.address_connections_max),
        limit(config.connections_max)
    ));
    lines.push(format!("take requests of at most {} bytes", config.frame_bytes_max));
    lines.push(format!(
        "acknowledge writes {} they are on disk",
        if config.sync_before_ack { "when" } else { "BEFORE" }
    ));
    lines.push(format!("take a snapshot after {} txns at the earliest", config.snap_txns));
    lines.push(match config.purge_every_ms {
        Some(every) => {
            format!("purge old files every {} h, keeping {} snapshots", every / 3_600_000, config.purge_keep)
        }
        None => "never purge old files".to_owned(),
    });
    lines.push(format!("answer these four-letter words: {}", words(config)));
    lines
}

pub fn words(config: &Config) -> String {
    match &config.words {
        config::Words::All => "all".to_owned(),
        config::Words::Only(words) => words.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[track_caller]
    fn check(text: &str, parts: &[&str]) {
        let loaded = config::load_file(Path::new("zoo.cfg"), text.as_bytes(), &Environment::default());
        let report = report(&loaded.unwrap_or_else(|error| panic!("{error}")));
        for part in parts {
            assert!(report.contains(part), "{part:?} is not in:\n{report}");
        }
    }

    #[test]
    fn reports() {
        check(
            "clientPort=2181\ndataDir=/d\nforceSync=no\ninitLimit=10\nnio.numWorkerThreads=4\n",
            &[
                "zoo.cfg:1: clientPort=2181 - port of the plain-text client listener",
                "zoo.cfg:4: initLimit=10 - ticks a learner may take to connect and sync; nothing to a server that runs alone",
                "zoo.cfg:5: nio.numWorkerThreads=4 - no effect: threads follow the CPUs",
                "Weaker than usual:\n  forceSync=no",
                "listen for clients on port 2181 of all interfaces",
                "acknowledge writes BEFORE they are on disk",
                "never purge",
                "four-letter words: srvr\n",
                "Valid.\n",
            ],
        );
    }
}
