GPUS = {}
