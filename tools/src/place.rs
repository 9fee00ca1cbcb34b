//! Where the zkServer verbs find things: configuration file, pid file, log file. The rules are zkServer.sh's.

use std::path::{Path, PathBuf};
use std::process::Command;

use ostler_engine::config::{self, Config, ConfigError, Environment, Loaded};

use crate::logging;

/// What `--config` and the environment say.
pub struct Place {
    directory: Option<PathBuf>,
    pub environment: Environment,
}

/// Scripts beside `zoo.cfg` in which operators of ZooKeeper set variables; zkServer.sh sources them.
const SOURCED: [&str; 2] = ["zookeeper-env.sh", "java.env"];
/// The variables that mean something here.
const VARIABLES: [&str; 10] = [
    "ZOOCFG",
    "ZOOPIDFILE",
    "ZOO_LOG_DIR",
    "ZOO_LOG_FILE",
    "ZOO_DATADIR_AUTOCREATE_DISABLE",
    "JVMFLAGS",
    "SERVER_JVMFLAGS",
    "OSTLER_LOG",
    "OSTLER_LOG_FILE",
    "OSTLER_LOG_SIZE",
];

impl Place {
    pub fn new(config_dir: Option<&Path>) -> Place {
        let mut environment = Environment::of_process();
        let variable = environment.get("ZOOCFGDIR").map(PathBuf::from);
        let given = config_dir.map(Path::to_path_buf).or(variable);
        let directory = given.clone().unwrap_or_else(|| "conf".into());
        for script in SOURCED.map(|name| directory.join(name)).iter().filter(|script| script.is_file()) {
            match source(script) {
                Ok(variables) => environment.variables.extend(variables),
                Err(reason) => eprintln!("{}: not read: {reason}", script.display()),
            }
        }
        Place { directory: given, environment }
    }

    /// A server of an ensemble on this machine, with everything below `directory`: what the environment says of places
    /// can hold for one server only.
    pub fn of_local_server(directory: &Path) -> Place {
        let mut environment = Environment::of_process();
        for name in ["ZOOCFG", "ZOOPIDFILE", "ZOO_LOG_DIR", "ZOO_LOG_FILE", "OSTLER_LOG_FILE"] {
            environment.variables.remove(name);
        }
        Place { directory: Some(directory.to_path_buf()), environment }
    }

    /// The variables that the server must see and this process's own environment may lack.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        VARIABLES.into_iter().filter_map(|name| Some((name, self.environment.get(name)?)))
    }

    /// The configuration file: `name` (with a directory in it: as it stands), else `$ZOOCFG`, else `zoo.cfg`, in the
    /// directory of `--config` or `$ZOOCFGDIR`, else in `./conf`. `None` when nothing was asked for and nothing is
    /// there: then the embedded defaults hold.
    pub fn config_file(&self, name: Option<&str>) -> Option<PathBuf> {
        let asked = name.or(self.environment.get("ZOOCFG"));
        if let Some(path) = asked.map(Path::new).filter(|path| path.components().count() > 1) {
            return Some(path.to_path_buf());
        }
        let directory = self.directory.clone().unwrap_or_else(|| "conf".into());
        let file = directory.join(asked.unwrap_or("zoo.cfg"));
        (asked.is_some() || self.directory.is_some() || file.exists()).then_some(file)
    }

    /// The words of a verb as arguments of `ostler server`: the file found by its name, flags as they stand.
    pub fn server_arguments(&self, words: &[String]) -> Vec<String> {
        let (flags, names): (Vec<&String>, Vec<&String>) =
            words.iter().partition(|word| word.starts_with("-D"));
        let file = self.config_file(names.first().map(|name| name.as_str()));
        let file = file.map(|file| std::path::absolute(&file).unwrap_or(file).display().to_string());
        file.into_iter().chain(flags.into_iter().cloned()).collect()
    }

    pub fn load(&self, words: &[String]) -> Result<Loaded, ConfigError> {
        config::load(&self.server_arguments(words), &self.environment)
    }

    /// `$ZOOPIDFILE`, else in the data directory.
    pub fn pid_file(&self, config: &Config) -> PathBuf {
        let given = self.environment.get("ZOOPIDFILE").map(PathBuf::from);
        given.unwrap_or_else(|| config.data_dir.join("zookeeper_server.pid"))
    }

    /// `--log-file` or `$OSTLER_LOG_FILE`; `$ZOO_LOG_DIR`, else `logs` in the data directory; `$ZOO_LOG_FILE`, else named as zkServer.sh names it.
    pub fn log_file(&self, config: &Config) -> PathBuf {
        if let Some(file) = self.environment.get(logging::FILE) {
            return std::path::absolute(file).unwrap_or_else(|_| file.into());
        }
        let given = self.environment.get("ZOO_LOG_DIR").map(PathBuf::from);
        let directory = given.unwrap_or_else(|| config.data_dir.join("logs"));
        let user = self.environment.get("USER").unwrap_or("unknown");
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = format!("zookeeper-{user}-server-{}.out", host.trim());
        directory.join(self.environment.get("ZOO_LOG_FILE").unwrap_or(&name))
    }
}

/// The variables as they stand after a shell has sourced `script`. It is the operator's own code, run by this user,
/// as zkServer.sh would run it.
fn source(script: &Path) -> Result<Vec<(String, String)>, String> {
    let script = std::path::absolute(script).map_err(|error| error.to_string())?;
    let print: String = VARIABLES.map(|name| format!("; printf '%s\\0' \"${{{name}-}}\"")).concat();
    let shell = Command::new("sh")
        .arg("-c")
        .arg(format!(". \"$1\" >/dev/null{print}"))
        .arg("sh")
        .arg(script)
        .output();
    let output = shell.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let values = String::from_utf8_lossy(&output.stdout).into_owned();
    let pairs = VARIABLES.into_iter().zip(values.split('\0'));
    Ok(pairs
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_beside_the_configuration() {
        let script = std::env::temp_dir().join(format!("ostler-java-{}.env", std::process::id()));
        std::fs::write(
            &script,
            "export SERVER_JVMFLAGS=\"-Dzookeeper.snapCount=5 $NOTHING\"\nZOOPIDFILE=/run/a\n",
        )
        .expect("write");
        let found = source(&script).expect("sourced");
        assert!(found.contains(&("SERVER_JVMFLAGS".to_owned(), "-Dzookeeper.snapCount=5 ".to_owned())));
        assert!(found.contains(&("ZOOPIDFILE".to_owned(), "/run/a".to_owned())));
        std::fs::write(&script, "exit 3").expect("write");
        source(&script).expect_err("a script that fails");
        std::fs::remove_file(script).expect("clean up");
    }

    fn place(directory: Option<&str>, variables: &[(&str, &str)]) -> Place {
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Place { directory: directory.map(PathBuf::from), environment: Environment { variables } }
    }

    #[track_caller]
    fn check(place: &Place, name: Option<&str>, expected: Option<&str>) {
        assert_eq!(place.config_file(name), expected.map(PathBuf::from));
    }

    #[test]
    fn configuration_files() {
        check(&place(Some("/etc/zk"), &[]), None, Some("/etc/zk/zoo.cfg"));
        check(&place(Some("/etc/zk"), &[]), Some("other.cfg"), Some("/etc/zk/other.cfg"));
        check(&place(Some("/etc/zk"), &[]), Some("/tmp/zoo.cfg"), Some("/tmp/zoo.cfg"));
        check(&place(Some("/etc/zk"), &[("ZOOCFG", "a.cfg")]), None, Some("/etc/zk/a.cfg"));
        check(&place(None, &[]), Some("x.cfg"), Some("conf/x.cfg"));
        check(&place(None, &[]), None, None);
    }

    #[test]
    fn pid_and_log_files() {
        let config = Config::embedded("/d");
        assert_eq!(place(None, &[]).pid_file(&config), PathBuf::from("/d/zookeeper_server.pid"));
        assert_eq!(
            place(None, &[("ZOOPIDFILE", "/run/zk.pid")]).pid_file(&config),
            PathBuf::from("/run/zk.pid")
        );
        let named = place(None, &[("ZOO_LOG_DIR", "/l"), ("ZOO_LOG_FILE", "zk.log")]);
        assert_eq!(named.log_file(&config), PathBuf::from("/l/zk.log"));
        assert!(place(None, &[("USER", "me")]).log_file(&config).starts_with("/d/logs"));
    }
}
