//! The one binary: `ostler`.

mod cli;
mod date;

fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("cli") => std::process::exit(cli::run(&args.collect::<Vec<_>>())),
        Some("bench") => std::process::exit(ostler_bench::command::run(&args.collect::<Vec<_>>())),
        _ => {
            eprintln!("usage: ostler cli [-server host:port] [command]");
            std::process::exit(2);
        }
    }
}
