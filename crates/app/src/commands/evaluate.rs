//! `feathercall eval`

use std::path::Path;
use std::sync::Arc;

use crate::painter::Painter;
use crate::progress::Progress;

pub(super) fn run(
    clip: &Path,
    face: &Path,
    options: &eval::Options,
    is_json: bool,
    report_folder: Option<&Path>,
) -> anyhow::Result<()> {
    let file = super::read_face(face)?;
    let mut painter = Painter::new(Arc::new(file.model.clone()));
    let mut progress = Progress::new(is_json);
    let report = eval::evaluate(
        clip,
        &file,
        options,
        &mut |feature, side| {
            painter.resize(side);
            painter.paint(feature)
        },
        &mut |stage, share, detail| progress.report(stage, share, detail),
    )?;
    progress.finish();
    if let Some(folder) = report_folder {
        eval::write_report(&report, folder)?;
    }
    if is_json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{}", report.to_markdown());
    }
    Ok(())
}
