//! A command's words to flags, values and operands, as Apache's shell sorts them.
//! Not here: a line's words (line), what the commands do.

use super::CliError;

/// What a command was given: `-x` flags, `-x value` options, and the rest in order.
#[derive(Debug, Default)]
pub struct Options {
    flags: Vec<String>,
    values: Vec<(String, String)>,
    pub operands: Vec<String>,
}

impl Options {
    /// `flags` and `valued` name the options without their dash. An unknown option is an error, as with Apache's shell;
    /// a lone negative number is an operand.
    pub fn parse(words: &[String], flags: &[&str], valued: &[&str]) -> Result<Options, CliError> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            // Behind it nothing is an option.
            if word == "--" {
                options.operands.extend(words.by_ref().cloned());
                break;
            }
            let name = word.strip_prefix('-').filter(|rest| !rest.is_empty() && rest.parse::<u64>().is_err());
            match name {
                Some(name) if flags.contains(&name) => options.flags.push(name.to_string()),
                Some(name) if valued.contains(&name) => {
                    let value = words.next().ok_or_else(|| {
                        refused("MissingArgument", format!("Missing argument for option: {name}"))
                    })?;
                    options.values.push((name.to_string(), value.clone()));
                }
                Some(name) if options.take_together(name, flags, valued) => {}
                Some(name) => {
                    return Err(refused("UnrecognizedOption", format!("Unrecognized option: -{name}")));
                }
                None => options.operands.push(word.clone()),
            }
        }
        Ok(options)
    }

    /// Flags written together, `-sR`, the last perhaps an option with its value, `-v3`. False if it is not that.
    fn take_together(&mut self, word: &str, flags: &[&str], valued: &[&str]) -> bool {
        let mut found = Vec::new();
        for (at, letter) in word.char_indices() {
            let (letter, rest) = word[at..].split_at(letter.len_utf8());
            if valued.contains(&letter) && !rest.is_empty() {
                self.values.push((letter.to_string(), rest.to_string()));
                break;
            }
            if !flags.contains(&letter) {
                return false;
            }
            found.push(letter.to_string());
        }
        self.flags.extend(found);
        true
    }

    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag)
    }

    /// The one given of `group`, whose options exclude each other. `None`: none of them.
    pub fn one_of(&self, group: &[&str]) -> Result<Option<&str>, CliError> {
        let mut given = self.flags.iter().chain(self.values.iter().map(|(name, _)| name));
        let mut given = given.by_ref().map(String::as_str).filter(|name| group.contains(name));
        let Some(first) = given.next() else { return Ok(None) };
        match given.find(|name| *name != first) {
            Some(second) => Err(refused(
                "AlreadySelected",
                format!(
                    "The option '{second}' was specified but an option from this group has already been selected: '{first}'"
                ),
            )),
            None => Ok(Some(first)),
        }
    }

    /// The first of that name, as in Apache's shell.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The option's value as a number.
    pub fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, CliError> {
        self.value(name).map(|text| parse_number(name, text)).transpose()
    }
}

/// The complaint of Apache's option parser, which prints the class of its exception, too.
pub fn refused(class: &str, complaint: String) -> CliError {
    CliError::Malformed(format!("org.apache.commons.cli.{class}Exception: {complaint}"))
}

pub fn parse_number<N: std::str::FromStr>(name: &str, text: &str) -> Result<N, CliError> {
    text.parse().map_err(|_| CliError::Malformed(format!("{name}: '{text}' is not a number")))
}

#[cfg(test)]
mod tests {
    use super::super::line::split_line;
    use super::*;

    #[test]
    fn options_come_anywhere() {
        let words = split_line("/a -v -1 -s data");
        let options = Options::parse(&words, &["s"], &["v"]).unwrap();
        assert!(options.has("s"));
        assert_eq!(options.number::<i32>("v").unwrap(), Some(-1));
        assert_eq!(options.operands, ["/a", "data"]);
        assert!(Options::parse(&words, &["s"], &[]).is_err());
    }

    #[test]
    fn behind_two_dashes_nothing_is_an_option() {
        let options = Options::parse(&split_line("-s -- /a -s --x --"), &["s"], &[]).unwrap();
        assert_eq!(options.operands, ["/a", "-s", "--x", "--"]);
        assert!(options.has("s"));
    }

    #[test]
    fn complaints_are_those_of_apaches_parser() {
        let check = |line: &str, expected: &str| {
            let parsed = Options::parse(&split_line(line), &["s"], &["n", "b"]);
            let outcome = parsed.and_then(|options| options.one_of(&["n", "b"]).map(|_| ()));
            assert_eq!(outcome.unwrap_err().to_string(), format!("org.apache.commons.cli.{expected}"));
        };
        check("-x /a", "UnrecognizedOptionException: Unrecognized option: -x");
        check("/a -n", "MissingArgumentException: Missing argument for option: n");
        check(
            "-n 5 -b 7 /a",
            "AlreadySelectedException: The option 'b' was specified but an option from this group has already been selected: 'n'",
        );
        let twice = Options::parse(&split_line("-n 5 -n 7"), &[], &["n", "b"]).unwrap();
        assert_eq!((twice.one_of(&["n", "b"]).unwrap(), twice.value("n")), (Some("n"), Some("5")));
    }

    #[test]
    fn flags_may_be_written_together() {
        let words = split_line("-sR /a -wv3");
        let options = Options::parse(&words, &["s", "R", "w"], &["v"]).unwrap();
        assert!(["s", "R", "w"].iter().all(|flag| options.has(flag)));
        assert_eq!(options.number::<i32>("v").unwrap(), Some(3));
        assert_eq!(options.operands, ["/a"]);
        assert!(Options::parse(&split_line("-sx"), &["s"], &[]).is_err());
    }
}
