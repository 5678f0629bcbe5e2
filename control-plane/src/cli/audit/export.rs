//! `keygate audit export`

use serde::Serialize;
use std::{
    io::{self, BufWriter, ErrorKind, Write},
    path::PathBuf,
};

use super::{super::offline, filter::Filter};
use crate::{
    audit::{AuditView, pages::Pages, read::ChainReader},
    config::Settings,
    private_file,
    store::Store,
};

#[derive(clap::Args)]
pub(in super::super) struct Arguments {
    /// Into this file, which must not be there yet [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// With batches and checkpoints, oldest first, so that `audit verify --file` can look through
    /// it elsewhere; the whole log
    #[arg(long, conflicts_with_all = ["event", "key_id", "client_ip", "actor", "source", "since", "until"])]
    chain: bool,
    #[command(flatten)]
    filter: Filter,
}

pub(super) async fn run(arguments: Arguments, settings: &Settings) -> anyhow::Result<()> {
    let (_, store) = offline::open(settings).await?;
    let mut output: Box<dyn Write + Send> = match &arguments.output {
        Some(path) => {
            let file = private_file::create_new(path)
                .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
            Box::new(BufWriter::new(file))
        }
        None => Box::new(BufWriter::new(io::stdout())),
    };
    let written = if arguments.chain {
        chain(&*store, &mut output).await
    } else {
        entries(&*store, arguments.filter, &mut output).await
    };
    let written = written.and_then(|()| Ok(output.flush()?));
    match written {
        // A reader who has seen enough (`| head`) is no failure.
        Err(error)
            if error.downcast_ref::<io::Error>().map(io::Error::kind)
                == Some(ErrorKind::BrokenPipe) =>
        {
            Ok(())
        }
        written => written,
    }
}

fn write(output: &mut dyn Write, line: &impl Serialize) -> anyhow::Result<()> {
    // As bytes first: an error of the writer stays one of input and output.
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(output.write_all(&text)?)
}

async fn entries(
    store: &dyn Store,
    filter: Filter,
    output: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let mut pages = Pages::new(filter.into(), None);
    while let Some(rows) = pages.next(store).await? {
        for row in rows {
            write(output, &AuditView::from(row))?;
        }
    }
    Ok(())
}

async fn chain(store: &dyn Store, output: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let mark = store.retired_mark().await?;
    let mut reader = ChainReader::new(store, mark.clone()).await?;
    while let Some(line) = reader.next().await? {
        write(output, &line)?;
    }
    if store.retired_mark().await? != mark {
        anyhow::bail!("old rows were retired meanwhile, and are missing; run it again");
    }
    Ok(())
}
