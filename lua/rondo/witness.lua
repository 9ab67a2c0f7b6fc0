-- witness: a message handler for errors that are to be told in other words, called where they
-- arise. It gives the error as it is; a host (src/host/record.c) puts in its place one that
-- remembers the line of the script besides.

return function(problem) return problem end
