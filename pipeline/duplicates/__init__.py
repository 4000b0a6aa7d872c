"""Images that are the same picture: recompressed, resized, turned, mirrored or slightly cropped.

A picture goes the way thumbnail → hashes → pairs whose hashes are close → pairs that are alike.
Called by `beam_jobs.find_duplicates`.
"""
