"""What a data set holds and what is wrong with it, everything at once: `check_data` looks, a report tells.

Opening a data set stops at the first fault; here every file is looked at and every fault named. `sources` says where
the files of a data set lie, which the folder and CamVid have; any other data set is read sample by sample.
"""
