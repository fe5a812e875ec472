//! Layers of the landmark network and the order of its parameters.

use types::LANDMARKS;

use crate::convolution::{BlockRole, Conv};

/// Side of the crop that the network reads, pixels.
pub(crate) const CROP_SIDE: usize = 96;
/// Coordinates per face: `x, y, z` of every landmark.
pub(crate) const OUTPUTS: usize = LANDMARKS * 3;
/// Width of the layer after the convolutions.
pub(crate) const HIDDEN: usize = 256;
/// Width of the linear bottleneck before the landmarks; its weights start as principal components.
pub(crate) const COEFFICIENTS: usize = 128;

/// Convolutions in order, about 29 million multiply-adds per crop.
///
/// The heads follow: `hidden` (activated) reads their output; `presence`, `spread` and
/// `coefficients` read `hidden`; `offsets` reads `coefficients`.
pub(crate) const CONVS: [Conv; 13] = [
    conv("stem", [3, 2], 96, [1, 16], BlockRole::Plain),
    conv("down1", [3, 2], 48, [16, 24], BlockRole::Plain),
    conv("block1a", [3, 1], 24, [24, 24], BlockRole::Opens),
    conv("block1b", [3, 1], 24, [24, 24], BlockRole::Closes),
    conv("down2", [3, 2], 24, [24, 48], BlockRole::Plain),
    conv("block2a", [3, 1], 12, [48, 48], BlockRole::Opens),
    conv("block2b", [3, 1], 12, [48, 48], BlockRole::Closes),
    conv("block3a", [3, 1], 12, [48, 48], BlockRole::Opens),
    conv("block3b", [3, 1], 12, [48, 48], BlockRole::Closes),
    conv("down3", [3, 2], 12, [48, 96], BlockRole::Plain),
    conv("block4a", [3, 1], 6, [96, 96], BlockRole::Opens),
    conv("block4b", [3, 1], 6, [96, 96], BlockRole::Closes),
    conv("squeeze", [1, 1], 6, [96, 64], BlockRole::Plain),
];
/// Length of the last convolution's output for one crop.
pub(crate) const FLAT: usize = CONVS[CONVS.len() - 1].len_out();

const fn conv(
    name: &'static str,
    [kernel, stride]: [usize; 2],
    side: usize,
    [input, output]: [usize; 2],
    role: BlockRole,
) -> Conv {
    Conv { name, kernel, stride, side, input, output, role }
}

/// Indices of the fully connected layers, after those of [`CONVS`].
pub(crate) const HIDDEN_LAYER: usize = CONVS.len();
/// See [`HIDDEN_LAYER`].
pub(crate) const COEFFICIENTS_LAYER: usize = CONVS.len() + 1;
/// See [`HIDDEN_LAYER`].
pub(crate) const OFFSETS_LAYER: usize = CONVS.len() + 2;
/// See [`HIDDEN_LAYER`].
pub(crate) const PRESENCE_LAYER: usize = CONVS.len() + 3;
/// See [`HIDDEN_LAYER`].
pub(crate) const SPREAD_LAYER: usize = CONVS.len() + 4;

/// One weight matrix or bias of the landmark network, and where it lies among the parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Name in the weight file: the layer, then `.weight` or `.bias`.
    pub name: String,
    /// Number of inputs of each output: for a convolution `kernel * kernel * input channels`; 1 for
    /// a bias.
    pub rows: usize,
    /// Number of outputs of the layer; for a convolution its output channels.
    pub columns: usize,
    /// Position of its first number among all parameters.
    pub offset: usize,
    /// Standard deviation of the initial values: He initialization for a leaky rectifier, smaller
    /// at the end of a residual block; 0 for a bias.
    pub initial_deviation: f32,
}

impl Parameter {
    /// Returns all parameters in order: for each layer a weight `[inputs, outputs]`, then a bias
    /// `[1, outputs]`.
    pub fn layout() -> Vec<Self> {
        let heads = [
            ("hidden", FLAT, HIDDEN),
            ("coefficients", HIDDEN, COEFFICIENTS),
            ("offsets", COEFFICIENTS, OUTPUTS),
            ("presence", HIDDEN, 1),
            ("spread", HIDDEN, LANDMARKS),
        ];
        let convs = CONVS.iter().map(|c| {
            let gain = if c.role == BlockRole::Closes { 0.3 } else { 1.3 };
            (c.name, c.patch(), c.output, gain)
        });
        let heads = heads.map(|(name, inputs, outputs)| (name, inputs, outputs, 1.0));
        let mut layout = Vec::new();
        let mut offset = 0;
        for (name, inputs, columns, gain) in convs.chain(heads) {
            let deviation = gain / (inputs as f32).sqrt();
            for (part, rows, initial_deviation) in [("weight", inputs, deviation), ("bias", 1, 0.0)]
            {
                let name = format!("{name}.{part}");
                layout.push(Self { name, rows, columns, offset, initial_deviation });
                offset += rows * columns;
            }
        }
        layout
    }

    /// Returns the positions of its numbers among all parameters.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.rows * self.columns
    }

    /// Returns whether it is a weight matrix rather than a bias.
    pub fn is_weight(&self) -> bool {
        self.name.ends_with(".weight")
    }
}

/// Values of all parameters, ordered as [`Parameter::layout`].
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    pub(crate) layout: Vec<Parameter>,
    pub(crate) values: Vec<f32>,
}

impl Weights {
    /// Takes values in the order of the layout.
    ///
    /// # Panics
    /// If their number is another than the layout's.
    pub(crate) fn new(values: Vec<f32>) -> Self {
        let layout = Parameter::layout();
        assert_eq!(values.len(), layout.last().map_or(0, |p| p.range().end));
        Self { layout, values }
    }

    /// Returns shape, weight and bias of the layer at `index`.
    pub(crate) fn layer(&self, index: usize) -> (&Parameter, &[f32], &[f32]) {
        let weight = &self.layout[2 * index];
        let bias = &self.layout[2 * index + 1];
        (weight, &self.values[weight.range()], &self.values[bias.range()])
    }

    /// Returns the parts of `gradient`, ordered as the parameters, for the weight and the bias of
    /// the layer at `index`.
    pub(crate) fn gradient_of<'a>(
        &self,
        index: usize,
        gradient: &'a mut [f32],
    ) -> [&'a mut [f32]; 2] {
        let (weight, bias) = (&self.layout[2 * index], &self.layout[2 * index + 1]);
        let (weight, rest) =
            gradient[weight.offset..bias.range().end].split_at_mut(weight.range().len());
        [weight, rest]
    }
}
