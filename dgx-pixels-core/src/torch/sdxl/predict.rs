//! The UNet's answers to many canvases at once.

use tch::Tensor;

use super::Sdxl;
use crate::torch::Result as TorchResult;
use crate::torch::canvas::{Answer, Row, SdxlCanvas};
use crate::torch::controls::ControlledRow;
use crate::torch::guidance::guide;
use crate::torch::is_out_of_memory;
use crate::torch::passes::PassRow;

/// One row of a step.
struct PlannedRow<'a> {
    /// The place of its canvas.
    i: usize,
    row: &'a Row,
    id: u64,
    /// Rows of one pass have texts of one length.
    tokens: i64,
}

/// The UNet's answer for one row.
struct RowAnswer {
    output: Tensor,
    /// The output of the inner levels, if they were computed and are to be kept.
    deep: Option<Tensor>,
}

impl Sdxl {
    /// The UNet's answer for each canvas. All have latents of one size and the same edges that
    /// meet, and are shallow or none is.
    pub(super) fn predict(&mut self, canvases: &[&SdxlCanvas]) -> TorchResult<Vec<Answer>> {
        // 1. rows: the negative ones, those of zeros first, then the positive ones
        let scaled = canvases.iter().map(|canvas| canvas.scaled()).collect::<TorchResult<Vec<_>>>()?;
        let inputs = canvases.iter().zip(&scaled).map(|(canvas, scaled)| canvas.model_input(scaled));
        let inputs = inputs.collect::<TorchResult<Vec<_>>>()?;
        let mut order: Vec<PlannedRow> = vec![];
        for (i, canvas) in canvases.iter().enumerate() {
            // A text of zeros is as long as any: it goes where its canvas goes.
            let tokens = |row: &Row| if row.text.is_some() { row.tokens } else { canvas.positive.tokens };
            let negative = canvas.guiding();
            order.extend(negative.map(|row| PlannedRow { i, row, id: 2 * canvas.id, tokens: tokens(row) }));
        }
        order.sort_by_key(|planned| planned.row.text.is_some());
        let guided = order.len();
        order.extend(canvases.iter().enumerate().map(|(i, canvas)| {
            let row = &canvas.positive;
            PlannedRow { i, row, id: 2 * canvas.id + 1, tokens: row.tokens }
        }));

        // 2. a forward pass for each length of texts; mostly there is one
        let mut lengths: Vec<i64> = order.iter().map(|planned| planned.tokens).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let mut answers: Vec<Option<RowAnswer>> = order.iter().map(|_| None).collect();
        for &tokens in &lengths {
            let places: Vec<usize> = (0..order.len()).filter(|n| order[*n].tokens == tokens).collect();
            let controlled = places.iter().map(|&n| {
                let PlannedRow { i, row, .. } = &order[n];
                ControlledRow { canvas: canvases[*i], row, scaled: &scaled[*i] }
            });
            let control = self.controls.residuals(&controlled.collect::<Vec<_>>(), tokens);
            if control.as_ref().is_err_and(is_out_of_memory) {
                self.passes.drop_recorded();
            }
            let control = control?;
            let rows = places.iter().map(|&n| {
                let PlannedRow { i, row, id, .. } = &order[n];
                let [positive, negative] = &canvases[*i].state.deep;
                let deep = if id % 2 == 1 { positive } else { negative };
                let deep = deep.as_ref().filter(|_| canvases[*i].is_shallow());
                let text = row.text.as_ref().map(|text| (*id, text));
                Ok(PassRow { sample: &inputs[*i], time: canvases[*i].time(&row.time)?, text, deep })
            });
            let rows = rows.collect::<TorchResult<Vec<_>>>()?;
            let passed = self.passes.forward(
                &self.unet,
                &rows,
                tokens,
                canvases[0].request.wrap,
                control.as_deref(),
            )?;
            for (at, &n) in places.iter().enumerate() {
                let row = |tensor: &Tensor| tensor.f_narrow(0, at as i64, 1);
                // The next pass writes over this one.
                let output = row(&passed.output)?;
                let output = if lengths.len() > 1 { copied(&output)? } else { output };
                let keeps = canvases[order[n].i].request.deep_cache.is_some();
                let deep = passed.deep.as_ref().filter(|_| keeps);
                let deep = deep.map(|deep| copied(&row(deep)?)).transpose()?;
                answers[n] = Some(RowAnswer { output, deep });
            }
        }

        // 3. guidance
        let mut answer = |n: usize| answers[n].take().expect("every row is in a pass, and is asked for once");
        canvases
            .iter()
            .enumerate()
            .map(|(i, canvas)| {
                let positive = answer(guided + i);
                let negative = order[..guided].iter().position(|planned| planned.i == i).map(&mut answer);
                let (output, negative_deep) = match negative {
                    None => (positive.output, None),
                    Some(negative) => {
                        (guide(&negative.output, &positive.output, &canvas.request)?, negative.deep)
                    }
                };
                let deep = positive.deep.map(|deep| [Some(deep), negative_deep]);
                Ok(Answer { guided: output, deep })
            })
            .collect()
    }
}

fn copied(tensor: &Tensor) -> TorchResult<Tensor> {
    let mut copy = tensor.f_empty_like()?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}
