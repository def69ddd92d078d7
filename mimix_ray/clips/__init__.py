"""Episodes to clips: crop bars and bottom text, find shots, cut 81 frames at 16 fps (paper 3.3).

An episode is decoded once, at the rate, crop and size of its clips. The detector watches the frames go by, and every
run of 81 frames that lies inside one shot (or one scene) goes to an encoder: what the detector saw is what the clip
holds, so that no rounding between two clocks can put a cut into a clip.

    survey.py   where an episode's picture is: without black bars and without persistent text below
    detectors/  one detector of shot changes a file
    scenes.py   which cuts end a scene
    cutting.py  frames and cuts -> windows; the picture's size and crop (pure)
    content.py  clips that are black, frozen or a page of text
    episode.py  one episode's file, or a piece of it -> its clips' files
    rows.py     an episode's pieces -> its rows, with its clips on storage before
    stage.py    all episodes of a universe, on Ray Data
"""
