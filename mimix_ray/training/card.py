def render(about, history, config):
    return ""


def loss_png(history):
    return b""
