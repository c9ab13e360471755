//! The demo's own check: a visitor meets the website, each carrier reaches the tunnel's end, and a
//! wrong key meets the website. Says each result in a line.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use postern_relay::wire::{Then, Wire};
use postern_shared::hello::HostName;
use postern_shared::invite::Invite;
use postern_shared::knock::{Carrier, ClientKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::sshd::Sshd;
use super::website::PAGE;
use super::{Demo, say};
use crate::tls::{Outward, Trust};

/// Longer than any of it takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// `postern connect`'s status for somebody who was not let in.
const NOT_ADMITTED: i32 = 7;

/// Checks everything, and fails if anything failed.
pub(super) async fn run(demo: &Demo) -> anyhow::Result<()> {
    let mut failed = 0;
    let mut tell = |what: &str, result: anyhow::Result<String>| {
        let line = match result {
            Ok(remark) if remark.is_empty() => format!("ok      {what}"),
            Ok(remark) => format!("ok      {what} ({remark})"),
            Err(error) => {
                failed += 1;
                format!("FAILED  {what}: {error:#}")
            }
        };
        say(&line)
    };
    tell("a visitor meets the website", visit(demo).await)?;
    for carrier in Carrier::ALL {
        let what = format!("a knock by the {carrier} carrier leads to the tunnel's end");
        tell(&what, tunnel(demo, carrier).await)?;
        let what = format!("a wrong key on the {carrier} carrier meets the website");
        tell(&what, wrong_key(demo, carrier).await)?;
    }
    tell("a visitor meets the website still", visit(demo).await)?;
    if failed > 0 {
        bail!("{failed} of the demo's checks failed");
    }
    Ok(())
}

async fn visit(demo: &Demo) -> anyhow::Result<String> {
    let name = HostName::parse(b"localhost");
    let outward = Outward::new(&Trust::Pin(demo.website_pin), name)?;
    let get = async {
        let wire = Wire::connect(demo.address, Then::Write).await?;
        let mut tls = outward.connect(wire, None, "localhost").await?;
        tls.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(PATIENCE, get).await.context("no answer")??;
    ensure!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "not the website's answer");
    ensure!(answer.ends_with(PAGE.as_bytes()), "not the website's page");
    Ok(String::new())
}

/// ssh, where there is one that works; the echo otherwise.
async fn tunnel(demo: &Demo, carrier: Carrier) -> anyhow::Result<String> {
    let Some(sshd) = &demo.sshd else {
        echo(demo, carrier).await?;
        return Ok("an echo: OpenSSH is not installed".to_owned());
    };
    match ssh(sshd, carrier).await {
        Ok(()) => Ok("ssh: a command, a terminal, sftp".to_owned()),
        Err(error) => {
            echo(demo, carrier).await?;
            Ok(format!("an echo: this machine's sshd does not work here: {error:#}"))
        }
    }
}

async fn ssh(sshd: &Sshd, carrier: Carrier) -> anyhow::Result<()> {
    let host = super::host(carrier);
    let config = sshd.ssh_config();
    let run = async |arguments: &[&str], input: &str| -> anyhow::Result<Output> {
        let (program, arguments) = arguments.split_first().context("no program")?;
        let mut command = Command::new(program);
        command.arg("-F").arg(&config).args(["-o", "BatchMode=yes"]).args(arguments);
        finish(command, input).await
    };
    let explain = |what: &str, output: &Output| {
        let log = std::fs::read_to_string(sshd.log()).unwrap_or_default();
        let last = log.lines().last().unwrap_or("its log is empty");
        let stderr = String::from_utf8_lossy(&output.stderr);
        format!("{what}: {}; sshd: {last}", stderr.trim())
    };
    let command = run(&["ssh", host, "echo postern"], "").await?;
    ensure!(command.stdout == b"postern\n", explain("a command", &command));
    let terminal = run(&["ssh", "-tt", host, "test -t 0 && echo a terminal"], "").await?;
    let shown = String::from_utf8_lossy(&terminal.stdout).into_owned();
    ensure!(shown.contains("a terminal"), explain("a terminal", &terminal));
    let sftp = run(&["sftp", "-b", "-", host], "pwd\n").await?;
    ensure!(sftp.status.success(), explain("sftp", &sftp));
    Ok(())
}

async fn echo(demo: &Demo, carrier: Carrier) -> anyhow::Result<()> {
    let arguments = ["connect", super::PROFILE, "--service", "echo", "--carrier", carrier.name()];
    let output = finish(demo.postern(&arguments), "postern\n").await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.stdout == b"postern\n", "the echo did not answer: {}", stderr.trim());
    Ok(())
}

async fn wrong_key(demo: &Demo, carrier: Carrier) -> anyhow::Result<String> {
    let profile = format!("wrong-{carrier}");
    let mut invite = Invite::from_link(&demo.invite(&profile)?)?;
    invite.key = ClientKey::new([0x77; 32]);
    demo.join(&profile, &invite.to_link())?;
    let output =
        finish(demo.postern(&["connect", &profile, "--carrier", carrier.name()]), "").await?;
    ensure!(output.stdout.is_empty(), "something came through");
    ensure!(
        output.status.code() == Some(NOT_ADMITTED),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::new())
}

/// Runs a command to its end with this input, or until patience ends.
async fn finish(command: Command, input: &str) -> anyhow::Result<Output> {
    let program = command.get_program().display().to_string();
    let mut child = tokio::process::Command::from(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{program} does not run"))?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    // A command that ended already tells why on stderr.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    Ok(output.with_context(|| format!("{program} did not end in {PATIENCE:?}"))??)
}
