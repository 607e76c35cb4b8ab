//! Tells the binary which commit it is built from.

use std::process::Command;

fn main() {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
    };
    // Without git or a checkout, as in a package, there is no commit to name.
    let commit = git(&["rev-parse", "--short=9", "HEAD"]).unwrap_or_else(|| "no commit".into());
    println!("cargo::rustc-env=MURMUR_COMMIT={commit}");
    println!("cargo::rerun-if-changed=swarm/cli/build.rs");
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}
