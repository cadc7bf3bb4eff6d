"""OpenVINO on a CPU: a graph compiled for each number of rows, in float32 or bfloat16."""
