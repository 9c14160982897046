//! One device's paths, input by input. Knows no network: that is the simulator.
