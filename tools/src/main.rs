//! The one binary: `ostler`. Without arguments it runs a server fit for a first benchmark.
//! Here: the list of subcommands. Each lives in a module of its own and returns the process's exit code.

mod check;
mod cli;
mod date;
mod init;
mod logging;
mod offline;
mod place;
mod server;
mod verbs;
mod words;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ostler_engine::config::Environment;

/// Exit codes scripts may rely on (operator.md §4): those of Apache's server.
pub mod exit {
    pub const OK: i32 = 0;
    /// Unexpected.
    pub const ERROR: i32 = 1;
    /// Bad arguments or configuration.
    pub const CONFIG: i32 = 2;
    /// A data directory cannot be used.
    pub const DATA_DIR: i32 = 3;
}

/// Ostler: a coordination server that ZooKeeper's clients use as they use Apache ZooKeeper 3.9.
#[derive(Parser)]
#[command(
    name = "ostler",
    version,
    disable_help_subcommand = true,
    after_help = "Without a command, `ostler` runs a server on 127.0.0.1:2181 with its data in the user's state \
                  directory (or $OSTLER_DATA_DIR); its first log line says where.\n\n\
                  Try:   ostler                          a server\n       \
                         ostler cli ls /                 what is in it, from another terminal\n       \
                         ostler check zoo.cfg            what a configuration means here\n       \
                         ostler server zoo.cfg           a server as that file says"
)]
struct Root {
    /// Directory of zoo.cfg, for the verbs of zkServer.sh (else $ZOOCFGDIR, else ./conf).
    #[arg(long, global = true, value_name = "DIR")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server in this terminal: `server [zoo.cfg]`, or `server PORT DIR [TICK] [MAX-PER-ADDRESS]`.
    ///
    /// Settings can be added as -Dname=value, named as Java's system properties, such as -Dzookeeper.snapCount=1000.
    /// JVMFLAGS and SERVER_JVMFLAGS are read for such settings. Without arguments the embedded defaults hold.
    Server(Words),
    /// Start the server in the background, as zkServer.sh does.
    Start(Words),
    /// Run the server of the configured directory in this terminal.
    StartForeground(Words),
    /// Stop the server that `start` started.
    Stop(Words),
    /// Stop it and start it again.
    Restart(Words),
    /// Ask the configured server for its role.
    Status(Words),
    /// Print the version of ZooKeeper that this is compatible with.
    Version,
    /// Print the command that `start` would run.
    PrintCmd(Words),
    /// Explain a configuration, key by key, without starting anything.
    Check(Words),
    /// Prepare data directories and myid, as zkServer-initialize.sh does.
    Init(init::Options),
    /// Send a four-letter word, such as `ruok` or `mntr`, and print the answer.
    #[command(name = "4lw")]
    FourLetterWord(words::Options),
    /// Apache's shell: `cli -server host:port [command]`.
    #[command(disable_help_flag = true)]
    Cli(Words),
    #[command(flatten)]
    Offline(offline::Offline),
    /// Measure a ZooKeeper server of any kind; `bench` alone lists what can be measured.
    #[command(disable_help_flag = true)]
    Bench(Words),
}

/// Words taken as they stand, `-D` flags included.
#[derive(Args)]
struct Words {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    words: Vec<String>,
}

fn main() {
    let arguments: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    // `ostler -Dname=value` is the server with a setting.
    if arguments.get(1).is_none_or(|word| word.starts_with("-D")) {
        std::process::exit(server::run(&arguments[arguments.len().min(1)..], &Environment::of_process()));
    }
    let root = Root::parse_from(arguments);
    let place = || place::Place::new(root.config.as_deref());
    let code = match root.command {
        None => server::run(&[], &Environment::of_process()),
        Some(Command::Server(Words { words })) => server::run(&words, &Environment::of_process()),
        Some(Command::Start(Words { words })) => verbs::start(&place(), &words),
        Some(Command::StartForeground(Words { words })) => verbs::start_foreground(&place(), &words),
        Some(Command::Stop(Words { words })) => verbs::stop(&place(), &words),
        Some(Command::Restart(Words { words })) => verbs::restart(&place(), &words),
        Some(Command::Status(Words { words })) => verbs::status(&place(), &words),
        Some(Command::Version) => verbs::version(),
        Some(Command::PrintCmd(Words { words })) => verbs::print_command(&place(), &words),
        Some(Command::Check(Words { words })) => check::run(&words),
        Some(Command::Init(options)) => init::run(&place(), &options),
        Some(Command::FourLetterWord(options)) => words::run(&options),
        Some(Command::Cli(Words { words })) => cli::run(&words),
        Some(Command::Offline(command)) => offline::run(command),
        Some(Command::Bench(Words { words })) => ostler_bench::command::run(&words),
    };
    std::process::exit(code);
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Root::command().debug_assert();
    }

    #[test]
    fn words_behind_a_verb_are_taken_as_they_stand() {
        let root = Root::parse_from(["ostler", "server", "2181", "/d", "-Dzookeeper.snapCount=5"]);
        assert!(matches!(root.command, Some(Command::Server(Words { words })) if words.len() == 3));
        let root = Root::parse_from(["ostler", "cli", "-server", "h:1", "ls", "-s", "/"]);
        assert!(matches!(root.command, Some(Command::Cli(Words { words })) if words.len() == 5));
        let root = Root::parse_from(["ostler", "--config", "/etc", "status", "other.cfg"]);
        assert_eq!(root.config, Some("/etc".into()));
        let root = Root::parse_from(["ostler", "status", "--config", "/etc"]);
        assert_eq!(root.config, Some("/etc".into()));
    }
}
