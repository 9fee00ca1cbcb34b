//! `ostler init`: prepares the data directories and `myid` of a configuration, as zkServer-initialize.sh does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ostler_engine::config::{self, Config};
use ostler_engine::io::owners::Processes;

use crate::exit;
use crate::place::Place;

#[derive(clap::Args)]
pub struct Options {
    /// The configuration that names the directories; else the one the other verbs would use.
    #[arg(long = "configfile", value_name = "FILE", conflicts_with = "config")]
    config_file: Option<PathBuf>,
    /// Directory of zoo.cfg (else $ZOOCFGDIR, else ./conf).
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Server id to write into myid.
    #[arg(long, value_name = "N")]
    myid: Option<u8>,
    /// Delete what the directories hold already.
    #[arg(long)]
    force: bool,
}

/// `before`: the directory of a `--config` before the verb.
pub fn run(before: Option<PathBuf>, options: &Options) -> i32 {
    let place = Place::new(options.config.clone().or(before).as_deref());
    let words: Vec<String> = options.config_file.iter().map(|file| file.display().to_string()).collect();
    let loaded = match options.config_file {
        Some(_) => config::load(&words, &place.environment),
        None => place.load(&[]),
    };
    let config = match loaded {
        Ok(loaded) => loaded.config,
        Err(error) => {
            eprintln!("ostler: {error}");
            return exit::CONFIG;
        }
    };
    match prepare(&config, options) {
        Ok(()) => exit::OK,
        Err(reason) => {
            eprintln!("{reason}");
            exit::ERROR
        }
    }
}

fn prepare(config: &Config, options: &Options) -> Result<(), String> {
    let mut directories = vec![config.data_dir.as_path()];
    if config.data_log_dir != config.data_dir {
        directories.push(&config.data_log_dir);
    }
    let used: Vec<PathBuf> = directories
        .iter()
        .map(|directory| directory.join("version-2"))
        .filter(|path| path.exists())
        .collect();
    if let Some(path) = used.first().filter(|_| !options.force) {
        return Err(format!("{} exists already; --force deletes what it holds", path.display()));
    }
    if !used.is_empty()
        && let Some(owner) = Processes::of_this_machine().owner_of(&directories)
    {
        return Err(format!("a server uses {}: {owner}; stop it first", directories[0].display()));
    }
    for path in &used {
        fs::remove_dir_all(path).map_err(|error| at(path, error))?;
    }
    for directory in directories {
        let version = directory.join("version-2");
        fs::create_dir_all(&version).map_err(|error| at(&version, error))?;
        // "An empty database is expected here": looked for beside either directory.
        write(&directory.join("initialize"), "")?;
    }
    match options.myid {
        Some(id) => {
            println!("Using myid of {id}");
            write(&config.data_dir.join("myid"), &format!("{id}\n"))
        }
        None => {
            println!(
                "No myid provided, be sure to specify it in {} if using non-standalone",
                config.data_dir.join("myid").display()
            );
            Ok(())
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| at(path, error))
}

fn at(path: &Path, error: io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_once() {
        let home = std::env::temp_dir().join(format!("ostler-init-{}", std::process::id()));
        let _ = fs::remove_dir_all(&home);
        let config = Config { data_log_dir: home.join("logs"), ..Config::embedded(home.join("data")) };
        let options = |force| Options { config_file: None, config: None, myid: Some(7), force };
        prepare(&config, &options(false)).expect("fresh");
        assert_eq!(fs::read_to_string(home.join("data/myid")).expect("myid"), "7\n");
        assert!(home.join("logs/version-2").is_dir() && home.join("logs/initialize").exists());
        fs::write(home.join("logs/version-2/log.1"), "x").expect("write");
        assert!(prepare(&config, &options(false)).expect_err("used").contains("--force"));
        prepare(&config, &options(true)).expect("forced");
        assert!(!home.join("logs/version-2/log.1").exists());
        // What a living process writes is not deleted.
        fs::write(home.join("logs/version-2/log.1"), "x").expect("write");
        let mut writer = std::process::Command::new("sh");
        writer
            .arg("-c")
            .arg("exec 3>>\"$1\"; echo open; read end")
            .arg("sh")
            .arg(home.join("logs/version-2/log.1"));
        writer.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut writer = writer.spawn().expect("sh runs");
        let mut open = [0; 5];
        io::Read::read_exact(writer.stdout.as_mut().expect("piped"), &mut open).expect("it is open");
        let refusal = prepare(&config, &options(true)).expect_err("in use");
        assert!(refusal.contains(&format!("process {}", writer.id())), "{refusal}");
        drop(writer.stdin.take());
        writer.wait().expect("it ends");
        fs::remove_dir_all(&home).expect("clean up");
    }
}
