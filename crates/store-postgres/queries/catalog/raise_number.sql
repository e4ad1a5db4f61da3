UPDATE catalog SET number = number + 1 RETURNING number
