cmake_minimum_required(VERSION 3.25)
# Writes OUT: a Lua module that returns the text of the annotations IN, for help and completion.
file(READ ${IN} text)
file(WRITE ${OUT} "return [==[\n${text}]==]\n")
