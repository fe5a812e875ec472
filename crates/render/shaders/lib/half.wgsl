// Texture formats of the folded field in 16-bit floats: filterable on every GPU and twice as fast
// to read as 32-bit floats. A volume uses only the first of four channels, because shaders cannot
// write the one-channel 16-bit format. Rust twin: `Precision::Half`.
alias PictureOut = texture_storage_2d_array<rgba16float, write>;
alias VolumeOut = texture_storage_3d<rgba16float, write>;
