//! `ostler completions` and `ostler man`: what a package puts beside the binary, made out of the argument parser.
//! Not here: the command line itself (`main`).

use std::io::{self, Write};
use std::path::PathBuf;

use crate::exit;

#[derive(clap::Args)]
pub struct Options {
    /// Write the pages of all commands into this directory instead: ostler.1, ostler-start.1 and so on.
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    all: Option<PathBuf>,
    /// The command, such as `start` or `log recover`.
    command: Vec<String>,
}

pub fn completions(shell: clap_complete::Shell, mut command: clap::Command) -> i32 {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "ostler", &mut text);
    print(&text)
}

pub fn manual(options: &Options, mut command: clap::Command) -> i32 {
    if let Some(dir) = &options.all {
        let made = std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(command, dir));
        return match made {
            Ok(()) => exit::OK,
            Err(error) => {
                eprintln!("{}: {error}", dir.display());
                exit::ERROR
            }
        };
    }
    // So that a page knows the whole name of its command.
    command.build();
    for name in &options.command {
        let Some(found) = command.find_subcommand(name) else {
            eprintln!("{} has no command {name}", command.get_bin_name().unwrap_or_default());
            return exit::CONFIG;
        };
        command = found.clone();
    }
    let mut page = Vec::new();
    match clap_mangen::Man::new(command).render(&mut page) {
        Ok(()) => print(&page),
        Err(error) => {
            eprintln!("the page cannot be made: {error}");
            exit::ERROR
        }
    }
}

fn print(text: &[u8]) -> i32 {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        // Whoever read it has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("cannot write the output: {error}");
            exit::ERROR
        }
        _ => exit::OK,
    }
}
