"""Where the hand is: palm detector and landmark network (ONNX), region, crop, handedness."""
