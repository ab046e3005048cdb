//! A PostgreSQL that runs until this program ends, with nothing left behind: `cargo run -p sagamill-testkit --example throwaway`.
#![expect(clippy::print_stdout, reason = "a program speaks on standard output")]

use std::io::Read as _;

use sagamill_testkit::{Error, postgres::Installation};

fn main() -> Result<(), Error> {
    let server = Installation::find()?.start(&[])?;
    println!("{}", server.url());
    // Until the end of the input, or Ctrl-C, or whatever ends it.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}
