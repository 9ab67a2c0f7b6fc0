-- f32: a number rounded to f32, half to even.
return function(x)
  return (string.unpack("f", string.pack("f", x)))
end
