"""Street pictures drawn by code, to try, test and measure the program without anyone's photographs."""
