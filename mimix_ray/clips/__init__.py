"""Episodes to clips: crop the text at the bottom, find shots, cut 81 frames at 16 fps (paper 3.3).

An episode is decoded once, at the rate, crop and size of its clips. The detector watches the frames go by, and every
run of 81 frames that lies inside one shot goes to an encoder: what the detector saw is what the clip holds, so that no
rounding between two clocks can put a cut into a clip.

    detectors/  one detector of shot cuts a file
    cutting.py  frames and cuts -> windows; the picture's crop (pure)
    episode.py  one episode's file -> its clips' files
    stage.py    all episodes of a universe, on Ray Data
"""
